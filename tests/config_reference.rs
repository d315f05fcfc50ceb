//! README.md holds the reference of every key exactly as the key table prints it; `UPDATE_README=1` writes it anew.

use board2mqtt::config;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- configuration:begin -->\n";
const END: &str = "<!-- configuration:end -->";

#[test]
fn readme_has_the_reference() {
    let readme = std::fs::read_to_string(README).expect("README.md");
    let begin = readme.find(BEGIN).expect("README.md marks where the reference begins") + BEGIN.len();
    let end = readme.find(END).expect("README.md marks where the reference ends");
    let expected = format!("\n{}\n", config::reference());
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{}{expected}{}", &readme[..begin], &readme[end..]);
        std::fs::write(README, updated).expect("README.md written");
        return;
    }
    assert!(readme[begin..end] == expected, "README.md should hold (UPDATE_README=1 writes it):\n{expected}");
}
