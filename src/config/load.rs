//! From a file, or a text, with the environment's overrides, to a configuration or to everything that is wrong with it.
//!
//! Invariant: what is returned as loaded has no fault that can be seen without knowing drivers and other names.

use super::reader::{Context, View};
use super::tree::Table;
use super::{
    Config, Diagnostic, Doubts, Origin, Partial, Report, SourceText, environment, gateway, inputs, keys, outputs,
    sensors,
};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Where a configuration is looked for when none is named.
pub const PATHS: [&str; 2] = ["/etc/board2mqtt/config.toml", "board2mqtt.toml"];

/// The most bytes of a configuration.
pub const MAX_SIZE: u64 = 1 << 20;

/// A configuration that may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its text, to report what is found later.
    pub source: SourceText,
    /// What the user should know nevertheless.
    pub warnings: Vec<Diagnostic>,
}

/// The configuration to use: `given`, else the first of [`PATHS`] that is there.
///
/// # Errors
/// None of them is there.
pub fn locate(given: Option<&Path>) -> Result<PathBuf, Report> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    // A file that is there but cannot be looked at is named, not passed over.
    let there = |path: &Path| !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let found = PATHS.iter().map(Path::new).find(|path| there(path));
    found.map(Path::to_owned).ok_or_else(|| {
        let [first, second] = PATHS;
        let help = "name one with -c FILE, or start from one of the examples in configs/";
        refusal(
            "configuration",
            Diagnostic::fault(&Origin::default(), format!("neither {first} nor ./{second} is there")).help(help),
        )
    })
}

/// Loads a configuration file; relative paths in it start at its folder.
///
/// # Errors
/// A file that cannot be read, and as for [`parse`].
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|error| refusal(&name, unreadable(path, &error)))?;
    if bytes.len() as u64 > MAX_SIZE {
        let fault = Diagnostic::fault(&Origin::default(), "larger than 1 MiB, which no configuration is");
        return Err(refusal(&name, fault.help("is this the right file?")));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(&name, &error))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    parse(&text, &name, folder, environment)
}

/// Reads a configuration's text; `name` stands in diagnostics, relative paths start at `folder`.
///
/// # Errors
/// Every fault of a key or a value, with what could be read in spite of them ([`Report::partial`]). After a syntax error
/// nothing else is looked at, since keys may then stand in a wrong table.
pub fn parse(
    text: &str,
    name: &str,
    folder: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Report> {
    let source = SourceText::new(name, text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let only_duplicates = errors.iter().all(|error| error.message().starts_with(DUPLICATE));
    let mut diagnostics: Vec<_> = errors.iter().map(|error| syntax(text, error)).collect();
    if !only_duplicates {
        return Err(source.report(diagnostics));
    }
    let mut root = Table::from(tree.into_inner());
    let mut doubts = Doubts::default();
    errors.iter().filter_map(toml::de::Error::span).for_each(|span| doubt_duplicate(text, span, &root, &mut doubts));
    let (found, more) = environment::override_keys(&mut root, environment);
    doubts.extend(more);
    diagnostics.extend(found);
    let context = Context::new(folder);
    let config = config(&context, &root);
    let (found, more) = context.into_parts();
    diagnostics.extend(found);
    doubts.extend(more);
    let report = source.report(diagnostics);
    if report.has_faults() {
        return Err(Report { partial: Some(Box::new(Partial { config, doubts })), ..report });
    }
    Ok(Loaded { config, source: report.source, warnings: report.diagnostics })
}

/// The parser's words for a key that is there twice; the tree keeps the first.
const DUPLICATE: &str = "duplicate key";

/// Doubts the value of a key that is there twice, the second time at `span`; of a table, everything called so.
fn doubt_duplicate(text: &str, span: Range<usize>, root: &Table, doubts: &mut Doubts) {
    let Some(key) = text.get(span.clone()) else { return };
    let is_header = text[..span.start].lines().next_back().is_some_and(|line| line.trim_start().starts_with('['));
    match root.last_before(key, span.start) {
        Some((tables, _)) if !is_header => {
            // The last one before may stand in a table within the one that has it twice.
            (0..=tables.len()).for_each(|depth| doubts.add(&tables[..depth].join("."), key));
        }
        _ => doubts.add_everywhere(key),
    }
}

/// Whatever was refused has been noted, and something stands in for it.
fn config(context: &Context<'_>, root: &Table) -> Config {
    let origin = Origin::default();
    let root = View::new(context, &keys::ROOT, String::new(), root, &origin).only_known_keys();
    let name = gateway::name(&root);
    let mqtt = gateway::mqtt(&root, &name);
    Config {
        folder: context.folder.to_owned(),
        topics: gateway::topics(&root),
        metrics_interval: root.table_or_empty("metrics").value("interval"),
        board: gateway::board(&root),
        simulated: gateway::simulated(&root),
        buffer: gateway::buffer(&root),
        sensors: sensors::sensors(&root),
        inputs: inputs::inputs(&root),
        outputs: outputs::outputs(&root),
        name,
        mqtt,
    }
}

/// What the parser says, with the remedy for the mistake people make most.
fn syntax(text: &str, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let span = span.start.min(text.len())..span.end.min(text.len());
    let origin = Origin { span: span.clone(), variable: None };
    match error.message() {
        message if message.starts_with(DUPLICATE) => {
            let key = super::tree::escape(text.get(span).unwrap_or_default());
            Diagnostic::fault(&origin, format!("`{key}` is there twice"))
        }
        message if message.starts_with("string values must be quoted") => {
            Diagnostic::fault(&origin, "a string without quotes").help("write it as in interval = \"10s\"")
        }
        message => Diagnostic::fault(&origin, message),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refusal(name: &str, diagnostic: Diagnostic) -> Report {
    SourceText::new(name, "").report(vec![diagnostic])
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let fault = |message: String| Diagnostic::fault(&Origin::default(), message);
    match error.kind() {
        io::ErrorKind::NotFound => {
            fault("cannot be read: there is no such file".to_owned()).help("name another with -c FILE")
        }
        io::ErrorKind::PermissionDenied => {
            // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
            let user = unsafe { libc::geteuid() };
            let owner = path.metadata().ok().map(|found| (found.uid(), found.gid(), found.mode()));
            fault(format!("cannot be read by user {}: permission denied", account("/etc/passwd", user)))
                .help(permission_help(owner))
        }
        _ => fault(format!("cannot be read: {error}")),
    }
}

/// Whose the file is, from its user, group and mode.
fn permission_help(owner: Option<(u32, u32, u32)>) -> String {
    let Some((user, group, mode)) = owner else {
        return "a folder above it may not be entered by this user".to_owned();
    };
    let (user, group) = (account("/etc/passwd", user), account("/etc/group", group));
    let mode = mode & 0o7777;
    if mode & 0o040 == 0 {
        format!("it is readable by user {user} alone (mode {mode:04o}); chmod g+r lets group {group} read it")
    } else {
        format!("it is readable by user {user} and group {group} (mode {mode:04o})")
    }
}

/// The name of a user or group by its number, from a file such as `/etc/passwd`; the number where there is none.
fn account(file: &str, number: u32) -> String {
    let number = number.to_string();
    let accounts = std::fs::read_to_string(file).unwrap_or_default();
    let named = accounts.lines().find(|line| line.split(':').nth(2) == Some(&number));
    named.and_then(|line| line.split(':').next()).map_or(number, str::to_owned)
}

/// The text up to the first wrong byte is shown as it is; what follows is not.
fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let good = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let shown = String::from_utf8_lossy(&bytes[..good]).into_owned();
    let message = format!("is not UTF-8: byte 0x{:02x}", bytes[good]);
    let origin = Origin { span: good.max(1)..good.max(1), variable: None };
    let fault = Diagnostic::fault(&origin, message).help("save it as UTF-8");
    SourceText::new(name, shown).report(vec![fault])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> impl Iterator<Item = (String, String)> {
        std::iter::empty()
    }

    #[test]
    fn a_missing_file_is_said_with_the_way_out() {
        let report = load(Path::new("/nowhere/config.toml"), nothing()).expect_err("no such file");
        let shown = report.to_string();
        assert!(shown.starts_with("/nowhere/config.toml: cannot be read: there is no such file\n"), "{shown}");
        assert!(shown.contains("-c FILE"), "{shown}");
    }

    #[test]
    fn a_folder_is_no_configuration() {
        let report = load(Path::new("/"), nothing()).expect_err("a folder");
        assert!(report.to_string().starts_with("/: cannot be read: "), "{report}");
    }

    #[test]
    fn wrong_bytes_are_located() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, b"[gateway]\nname = \"gr\xfc\xdfe\"\n").expect("written");
        let shown = load(&path, nothing()).expect_err("not UTF-8").to_string();
        assert!(shown.contains("c.toml:2:11: is not UTF-8: byte 0xfc"), "{shown}");
        std::fs::write(&path, b"\xff").expect("written");
        let shown = load(&path, nothing()).expect_err("not UTF-8").to_string();
        assert!(shown.contains("c.toml:1:1: is not UTF-8: byte 0xff"), "{shown}");
    }

    #[test]
    fn a_huge_file_is_refused_unparsed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, vec![b'#'; MAX_SIZE as usize + 1]).expect("written");
        let shown = load(&path, nothing()).expect_err("too large").to_string();
        assert!(shown.contains("larger than 1 MiB"), "{shown}");
        assert!(load(Path::new("/dev/zero"), nothing()).is_err(), "an endless file ends");
    }

    #[test]
    fn permission_faults_name_the_group() {
        assert_eq!(permission_help(Some((0, 0, 0o100_640))), "it is readable by user root and group root (mode 0640)");
        assert!(permission_help(Some((0, 0, 0o100_600))).contains("chmod g+r"));
        assert!(permission_help(None).contains("folder"));
        assert_eq!(account("/etc/passwd", 4_000_000_000), "4000000000");
    }

    #[test]
    fn paths_start_at_the_folder_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        let text = "[gateway]\nname = \"a\"\n[mqtt]\nserver = \"mqtts://b\"\ntls = { ca = \"ca.pem\" }\n[simulated]\nscript = \"/x/s.toml\"";
        std::fs::write(&path, text).expect("written");
        let config = load(&path, nothing()).expect("no fault").config;
        assert_eq!(config.mqtt.ca.expect("given").value, folder.path().join("ca.pem"));
        assert_eq!(config.simulated.script.expect("given").value, Path::new("/x/s.toml"));
    }

    #[test]
    fn without_a_given_path_both_usual_ones_are_named() {
        // Only where neither is there can the refusal be seen.
        if PATHS.iter().all(|path| !Path::new(path).exists()) {
            let shown = locate(None).expect_err("nothing there").to_string();
            assert!(PATHS.iter().all(|path| shown.contains(path)) && shown.contains("-c FILE"), "{shown}");
        }
        assert_eq!(locate(Some(Path::new("x.toml"))).expect("given"), Path::new("x.toml"));
    }
}
