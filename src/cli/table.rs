//! Columns of text as wide as what stands in them.

/// Which side a column's text keeps to.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// The widths of the columns of `rows`.
pub fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
}

/// One line a row, two blanks between columns, none at a line's end.
pub fn lines<const N: usize>(rows: &[[String; N]], sides: [Side; N], widths: [usize; N]) -> String {
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let blanks = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let (before, after) = if sides[column] == Side::Right { (&*blanks, "") } else { ("", &*blanks) };
            text.extend([before, cell, after, "  "]);
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_text_whatever_its_script() {
        let rows = [["a", "°", "x"], ["bbb", "100", ""]].map(|row| row.map(str::to_owned));
        let text = lines(&rows, [Side::Left, Side::Right, Side::Left], widths(&rows));
        assert_eq!(text, "a      °  x\nbbb  100\n");
    }
}
