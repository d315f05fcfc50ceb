//! The commands that the documentation prints, found and taken apart as a shell would.

use super::{Block, spans};

/// A command and what it is said to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Where it stands, for messages.
    pub place: String,
    /// `NAME=value` in front of the program.
    pub environment: Vec<(String, String)>,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The lines under it; `None` where none are shown.
    pub output: Option<String>,
}

/// Every command of a fenced block: each line of `sh`, each line after `$ ` of `console`.
pub fn of_block(name: &str, block: &Block) -> Vec<Printed> {
    let place = format!("{name}:{}", block.line);
    match block.language.as_str() {
        "sh" => block.text.lines().flat_map(|line| of_line(&place, line)).collect(),
        "console" => {
            let mut found: Vec<Printed> = Vec::new();
            for line in block.text.lines() {
                match line.strip_prefix("$ ") {
                    Some(line) => {
                        found.extend(of_line(&place, line));
                        found.last_mut().expect("a command after `$ `").output = Some(String::new());
                    }
                    None => {
                        let output = found.last_mut().and_then(|command| command.output.as_mut());
                        let output = output.unwrap_or_else(|| panic!("{place}: output before a command"));
                        output.push_str(line);
                        output.push('\n');
                    }
                }
            }
            found
        }
        _ => Vec::new(),
    }
}

/// Every command in the comments of a file: after `with:  `, indented by three blanks and more, or in backticks.
pub fn of_comments(name: &str, text: &str) -> Vec<Printed> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = line.split_once('#').map(|(_, comment)| comment) else { continue };
        let place = format!("{name}:{}", at + 1);
        let whole = line.trim_start().starts_with('#');
        if let Some((_, command)) = comment.split_once("with:  ") {
            found.extend(of_line(&place, command));
        } else if whole && comment.starts_with("   ") && !comment.contains('[') {
            found.extend(of_line(&place, comment));
        }
        let quoted = spans(comment).into_iter().filter(|span| span.starts_with("board2mqtt "));
        found.extend(quoted.flat_map(|span| of_line(&place, &span)));
    }
    found
}

/// The commands of one line: parts joined by `&&`, without a comment and without a last `| cat`.
pub fn of_line(place: &str, line: &str) -> Vec<Printed> {
    let mut words = split(line);
    if words.ends_with(&["|".to_owned(), "cat".to_owned()]) {
        words.truncate(words.len() - 2);
    }
    let parts = words.split(|word| word == "&&").filter(|part| !part.is_empty());
    parts.map(|part| of_words(place, part)).collect()
}

fn of_words(place: &str, words: &[String]) -> Printed {
    let is_variable = |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && is_name(name));
    let environment: Vec<_> = words.iter().take_while(is_variable).filter_map(|word| word.split_once('=')).collect();
    Printed {
        place: place.to_owned(),
        words: words[environment.len()..].to_vec(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        output: None,
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Words by blanks and quotes, up to a comment.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (None, '#') if word.is_none() => break,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(end), c) if c == end => quote = None,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is left open: {line}");
    words.extend(word);
    words
}

#[test]
fn commands_are_taken_apart_as_a_shell_does() {
    let commands = of_line("x", r#"A_1=b sudo cp "a b" 'c' && rm c=d # and so on"#);
    let words = |at: usize| commands[at].words.join("|");
    assert_eq!((commands.len(), words(0), words(1)), (2, "sudo|cp|a b|c".into(), "rm|c=d".into()));
    assert_eq!(commands[0].environment, [("A_1".to_owned(), "b".to_owned())]);
    assert_eq!(of_line("x", "demo | cat")[0].words, ["demo"]);
    assert!(of_line("x", "# nothing").is_empty());
    let comments = of_comments("x", "# Try it with:  a b\nk = 1 # see `board2mqtt read`\n#   c d\n#   c DIR [E]\n# no");
    assert_eq!(
        comments.iter().map(|found| found.words.join(" ")).collect::<Vec<_>>(),
        ["a b", "board2mqtt read", "c d"]
    );
}
