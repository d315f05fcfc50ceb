//! The table in a terminal: what stands where in so many columns and rows, and the terminal borrowed and given back.
//!
//! It knows no MQTT. Invariant: no line is wider and no page higher than the terminal, so nothing ever wraps or scrolls.

use std::io::{IsTerminal, Write};

/// Other screen, cursor hidden, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// All of it undone.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
const BOLD: &str = "\x1b[1m";
const ALARM: &str = "\x1b[7m";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
/// Where the beacon lights, and what the gauge ends at, in feet.
const LIMIT: u32 = 400;
const TOP: u32 = 500;
/// Columns of the gauge where there is room, and where there is hardly any.
const GAUGE: usize = 40;
const SHORTEST: usize = 10;
/// Columns of what stands around it.
const WORDS: usize = 46;

/// One topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The topic.
    pub topic: String,
    /// What it said last, without control characters.
    pub payload: String,
    /// It has just changed.
    pub fresh: bool,
}

/// What is to be seen.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The server's.
    pub address: String,
    /// What a visitor may try.
    pub command: String,
    /// By topic.
    pub rows: Vec<Row>,
    /// The altitude, once it is known.
    pub feet: Option<i64>,
    /// Whether the beacon is lit.
    pub beacon: bool,
    /// How many have come.
    pub messages: u64,
}

/// Whether stdout is a terminal that a table can be drawn in.
pub fn is_usable() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The terminal, given back as it was when dropped.
pub struct Screen(());

impl Screen {
    /// Borrows it.
    pub fn enter() -> Self {
        write(ENTER);
        Self(())
    }

    /// Draws everything anew.
    pub fn draw(&mut self, view: &View) {
        let (columns, rows) = size();
        write(&page(view, columns, rows));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
    }
}

/// A terminal that has gone is no reason to stop.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Columns and rows; those of the oldest terminals where nobody knows.
fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a valid, writable winsize for the duration of the call.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) } == 0;
    match (known, size.ws_col, size.ws_row) {
        (true, 1.., 1..) => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// A line and how it looks.
struct Line(&'static str, String);

/// The whole page as the terminal takes it: from the top left, each line cleared to its end, then all below.
fn page(view: &View, columns: usize, rows: usize) -> String {
    let mut text = "\x1b[H".to_owned();
    for (number, Line(look, line)) in layout(view, columns, rows).into_iter().enumerate() {
        let separator = if number == 0 { "" } else { "\r\n" };
        text += &format!("{separator}{look}{}{PLAIN}\x1b[K", cut(&line, columns));
    }
    text + "\x1b[J"
}

/// What fits: the head, as many topics as there is room for, then what a visitor may try.
fn layout(view: &View, columns: usize, rows: usize) -> Vec<Line> {
    let mut head = vec![
        Line(BOLD, format!("board2mqtt demo: a simulated board, its own MQTT server at {}", view.address)),
        Line("", String::new()),
        Line(if view.beacon { ALARM } else { "" }, gauge(view, columns)),
        Line("", String::new()),
    ];
    let mut foot = vec![
        Line("", String::new()),
        Line(FAINT, format!("{} messages so far; Ctrl-C stops. From another terminal:", view.messages)),
        Line("", view.command.clone()),
    ];
    if rows < head.len() + foot.len() + 3 {
        // A window as low as that shows readings.
        head.drain(..2);
        foot.clear();
    }
    let room = rows.saturating_sub(head.len() + foot.len());
    head.extend(table(&view.rows, columns, room));
    head.extend(foot);
    head.truncate(rows);
    head
}

fn table(rows: &[Row], columns: usize, room: usize) -> Vec<Line> {
    // Half of a narrow window is left for the payloads.
    let widest = rows.iter().map(|row| row.topic.chars().count()).max().unwrap_or(0).min(columns / 2);
    let line = |row: &Row| {
        let look = if row.fresh { BOLD } else { "" };
        Line(look, format!("{:<widest$}  {}", cut(&row.topic, widest), row.payload))
    };
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let more = (shown < rows.len()).then(|| Line(FAINT, format!("... and {} more topics", rows.len() - shown)));
    rows[..shown].iter().map(line).chain(more).collect()
}

/// How high the drone is, where the limit lies, and what the beacon makes of it.
fn gauge(view: &View, columns: usize) -> String {
    let beacon = if view.beacon { "BEACON ON" } else { "beacon off" };
    let Some(feet) = view.feet else { return format!("altitude   not known yet   {beacon}") };
    if columns < WORDS + SHORTEST {
        return format!("altitude {feet} ft  {beacon}");
    }
    let width = GAUGE.min(columns - WORDS);
    let reach = |feet: u32| (feet.min(TOP) as usize * width) / TOP as usize;
    let (filled, limit) = (reach(u32::try_from(feet).unwrap_or(0)), reach(LIMIT));
    let bar: String = (0..width)
        .map(|column| match (column == limit, column < filled) {
            (true, _) => '|',
            (false, true) => '#',
            (false, false) => '.',
        })
        .collect();
    format!("altitude {feet:>4} ft  [{bar}]  limit {LIMIT} ft  {beacon}")
}

/// The text in at most so many characters.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns == 0 { kept } else { kept + "~" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(topics: usize) -> View {
        let row = |number| Row {
            topic: format!("sensors/drone{number:02}/altitude"),
            payload: "100 feet, and a great deal more to say about it than any window is wide".repeat(2),
            fresh: number == 0,
        };
        View {
            address: "127.0.0.1:1883".to_owned(),
            command: "mosquitto_pub -h 127.0.0.1 -p 1883 -t sensors/demo/beacon/set -m TOGGLE".to_owned(),
            rows: (0..topics).map(row).collect(),
            feet: Some(412),
            beacon: true,
            messages: 7,
        }
    }

    /// The characters of each line that take a column.
    fn visible(page: &str) -> Vec<usize> {
        let width = |line: &str| {
            let sequences = line.split('\x1b').skip(1);
            let inside: usize = sequences.map(|s| 1 + s.find(char::is_alphabetic).expect("an end") + 1).sum();
            line.chars().count() - inside
        };
        page.split("\r\n").map(width).collect()
    }

    #[test]
    fn no_page_is_larger_than_its_window() {
        for (columns, rows) in [(200, 60), (80, 24), (40, 10), (20, 6), (12, 3), (1, 1), (7, 200)] {
            for topics in [0, 1, 14, 300] {
                let lines = visible(&page(&view(topics), columns, rows));
                assert!(lines.len() <= rows, "{columns} x {rows}, {topics} topics: {} lines", lines.len());
                assert!(lines.iter().all(|width| *width <= columns), "{columns} x {rows}: {lines:?}");
            }
        }
    }

    #[test]
    fn a_usual_window_shows_everything_there_is() {
        let page = page(&view(12), 80, 24);
        for text in [
            "127.0.0.1:1883",
            "altitude  412 ft",
            "BEACON ON",
            "sensors/drone11/altitude",
            "mosquitto_pub",
            "7 messages",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let page = page(&view(300), 80, 24);
        assert!(page.contains("... and 284 more topics") && page.contains("mosquitto_pub"), "{page}");
    }

    #[test]
    fn the_gauge_grows_to_its_limit_and_never_beyond_its_end() {
        let bar = |feet| gauge(&View { feet: Some(feet), ..View::default() }, 90);
        let short = gauge(&View { feet: Some(3), ..View::default() }, 40);
        assert_eq!(short, "altitude 3 ft  beacon off");
        assert!(bar(-20).contains("[................................|.......]"), "{}", bar(-20));
        assert!(bar(250).contains("[####################............|.......]"), "{}", bar(250));
        assert!(bar(9_999).contains("[################################|#######]"), "{}", bar(9_999));
    }
}
