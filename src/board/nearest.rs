//! "Did you mean": the names nearest to one that does not exist. Pure.

/// `, did you mean a, b or c` for the names nearest to `wanted`, nearest first; empty where none is near.
///
/// Near is: at most two typing errors, or one in four letters of a long name; upper and lower case count as the same. A
/// name that goes on after a blank (`P9_14 [ehrpwm1a]`) is as near as its first word. Where nothing but case or what
/// follows a blank differs, nothing else is named.
pub(super) fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let lower = wanted.to_lowercase();
    let errors = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let first_word = |name: &str| name.split_once(' ').map_or(usize::MAX, |(word, _)| errors(word));
    let distance = |name: &str| errors(name).min(first_word(name));
    let limit = 2.max(wanted.len() / 4);
    let mut close: Vec<(usize, &str)> = names.into_iter().map(|name| (distance(name), name)).collect();
    close.retain(|(distance, _)| *distance <= limit);
    close.sort_unstable();
    close.dedup();
    if close.first().is_some_and(|(distance, _)| *distance == 0) {
        close.retain(|(distance, _)| *distance == 0);
    }
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
        assert_eq!(did_you_mean("GPIO71", names), ", did you mean GPIO1, GPIO17 or GPIO7");
        assert_eq!(did_you_mean("gpio17", names), ", did you mean GPIO17");
        assert_eq!(did_you_mean("SPEAKER", names), "");
        assert_eq!(did_you_mean("ID_SDB", names), ", did you mean ID_SDA");
        let beagle = ["P9_12", "P9_14 [ehrpwm1a]", "P8_4 [mmc1_dat7]", "NC"];
        assert_eq!(did_you_mean("p9_14", beagle), ", did you mean P9_14 [ehrpwm1a]");
    }
}
