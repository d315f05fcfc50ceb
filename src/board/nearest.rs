//! "Did you mean": the names nearest to one that does not exist. Pure.

/// `, did you mean a, b or c` for the names nearest to `wanted`, nearest first; empty where none is near.
///
/// Near is: at most two typing errors, or one in four letters of a long name; upper and lower case count as the same.
pub(super) fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let lower = wanted.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let limit = 2.max(wanted.len() / 4);
    let mut close: Vec<(usize, &str)> = names.into_iter().map(|name| (distance(name), name)).collect();
    close.retain(|(distance, _)| *distance <= limit);
    close.sort_unstable();
    close.dedup();
    match close.iter().take(3).map(|(_, name)| *name).collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [one] => format!(", did you mean {one}"),
        [first @ .., last] => format!(", did you mean {} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_nearest_first() {
        let names = ["GPIO7", "GPIO17", "GPIO1", "ID_SDA", "GPIO27"];
        assert_eq!(did_you_mean("gpio17", names), ", did you mean GPIO17, GPIO1 or GPIO27");
        assert_eq!(did_you_mean("SPEAKER", names), "");
        assert_eq!(did_you_mean("ID_SDB", names), ", did you mean ID_SDA");
    }
}
