//! The topic templates of `[topics]` and of single readings, inputs and outputs: parsed once, rendered for each use.
//!
//! A topic that comes out of here is one that may be published on; whatever is wrong has been reported at the template, or at
//! what is in its place.

use super::report::Report;
use crate::config::{Config, Located, Origin};
use crate::topic::{self, Piece, TopicError, parse_template, validate};

/// A parsed template, or `None` in the pieces where parsing failed and was reported.
pub(super) struct Template<'a> {
    pieces: Option<Vec<Piece>>,
    origin: &'a Origin,
}

/// What a template's fields stand for in one use; the ones that do not belong there are empty.
#[derive(Clone, Copy, Default)]
pub(super) struct Fields<'a> {
    pub sensor: &'a str,
    pub quantity: &'a str,
    pub input: &'a str,
    pub output: &'a str,
    /// The topic the template is appended to: `{reading_topic}` or `{output_topic}`.
    pub parent: &'a str,
}

/// Which fields a template may name beside `{base}` and `{gateway}`, and which one would be itself.
struct Scope {
    fields: &'static [&'static str],
    itself: &'static str,
}

const GATEWAY: Scope = Scope { fields: &[], itself: "" };
const SENSOR: Scope = Scope { fields: &["sensor"], itself: "" };
const READING: Scope = Scope { fields: &["sensor", "quantity"], itself: "reading_topic" };
const HISTORY: Scope = Scope { fields: &["reading_topic", "sensor", "quantity"], itself: "" };
const INPUT: Scope = Scope { fields: &["input"], itself: "" };
const OUTPUT: Scope = Scope { fields: &["output"], itself: "output_topic" };
const OF_OUTPUT: Scope = Scope { fields: &["output_topic", "output"], itself: "" };

/// All templates of a configuration.
pub(super) struct Templates<'a> {
    /// `None` where it cannot be relied on; templates that name it are then passed over.
    gateway: Option<&'a str>,
    /// Rendered; `None` where it was faulty, and every template that names it is then passed over in silence.
    base: Option<String>,
    pub status: Template<'a>,
    pub reading: Option<Template<'a>>,
    pub history: Option<Template<'a>>,
    pub sensor: Option<Template<'a>>,
    pub sensor_status: Option<Template<'a>>,
    pub health: Option<Template<'a>>,
    pub input: Template<'a>,
    pub output: Template<'a>,
    pub set: Template<'a>,
    pub reply: Option<Template<'a>>,
    pub get: Option<Template<'a>>,
    pub metrics: Option<Template<'a>>,
}

impl<'a> Templates<'a> {
    /// Parses every template of the configuration and renders the base.
    pub fn new(config: &'a Config, report: &mut Report) -> Self {
        let topics = &config.topics;
        let gateway = Some(config.name.value.as_str()).filter(|_| !report.doubts(&["gateway", "name"]));
        let base = if report.doubts(&["topics", "base"]) { None } else { base(&topics.base, gateway, report) };
        let mut one = |key: &str, text: &'a Located<String>, scope: &Scope| {
            let doubtful = report.doubts(&["topics", key]);
            if doubtful { Template { pieces: None, origin: &text.origin } } else { parse(text, scope, report) }
        };
        Self {
            gateway,
            base,
            status: one("status", &topics.status, &GATEWAY),
            reading: topics.reading.as_ref().map(|text| one("reading", text, &READING)),
            history: topics.history.as_ref().map(|text| one("history", text, &HISTORY)),
            sensor: topics.sensor.as_ref().map(|text| one("sensor", text, &SENSOR)),
            sensor_status: topics.sensor_status.as_ref().map(|text| one("sensor_status", text, &SENSOR)),
            health: topics.health.as_ref().map(|text| one("health", text, &SENSOR)),
            input: one("input", &topics.input, &INPUT),
            output: one("output", &topics.output, &OUTPUT),
            set: one("set", &topics.set, &OF_OUTPUT),
            reply: topics.reply.as_ref().map(|text| one("reply", text, &OF_OUTPUT)),
            get: topics.get.as_ref().map(|text| one("get", text, &GATEWAY)),
            metrics: topics.metrics.as_ref().map(|text| one("metrics", text, &GATEWAY)),
        }
    }

    /// Renders a template and checks the topic; `None` where something is wrong, which has then been reported.
    pub fn render(&self, template: &Template<'_>, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
        let pieces = template.pieces.as_ref()?;
        if (names(pieces, "base") && self.base.is_none()) || (names(pieces, "gateway") && self.gateway.is_none()) {
            return None;
        }
        let topic = topic::render(pieces, |field| self.field(field, fields).to_owned());
        checked(topic, template.origin, report)
    }

    /// Renders a reading's own `topic`.
    pub fn reading_topic(&self, text: &Located<String>, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
        self.render(&parse(text, &READING, report), fields, report)
    }

    /// Renders an input's own `topic`.
    pub fn input_topic(&self, text: &Located<String>, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
        self.render(&parse(text, &INPUT, report), fields, report)
    }

    /// Renders an output's own `topic`.
    pub fn output_topic(&self, text: &Located<String>, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
        self.render(&parse(text, &OUTPUT, report), fields, report)
    }

    /// Renders the topic of something this board listens to.
    pub fn foreign_topic(&self, text: &Located<String>, report: &mut Report) -> Option<String> {
        self.render(&parse(text, &GATEWAY, report), &Fields::default(), report)
    }

    fn field<'f>(&'f self, name: &str, fields: &Fields<'f>) -> &'f str {
        match name {
            "base" => self.base.as_deref().unwrap_or_default(),
            "gateway" => self.gateway.unwrap_or_default(),
            "sensor" => fields.sensor,
            "quantity" => fields.quantity,
            "input" => fields.input,
            "output" => fields.output,
            _ => fields.parent,
        }
    }
}

fn names(pieces: &[Piece], field: &str) -> bool {
    pieces.iter().any(|piece| matches!(piece, Piece::Field(name) if name == field))
}

fn base(text: &Located<String>, gateway: Option<&str>, report: &mut Report) -> Option<String> {
    let parsed = parse_template(text, &["gateway"]).map_err(|error| named_cycle(error, "base"));
    match parsed {
        Ok(pieces) if gateway.is_none() && names(&pieces, "gateway") => None,
        Ok(pieces) => checked(topic::render(&pieces, |_| gateway.unwrap_or_default().to_owned()), &text.origin, report),
        Err(error) => {
            tell(&text.origin, &error, report);
            None
        }
    }
}

fn parse<'a>(text: &'a Located<String>, scope: &Scope, report: &mut Report) -> Template<'a> {
    let mut allowed = vec!["base", "gateway"];
    allowed.extend(scope.fields);
    let pieces = parse_template(text, &allowed)
        .map_err(|error| tell(&text.origin, &named_cycle(error, scope.itself), report))
        .ok();
    Template { pieces, origin: &text.origin }
}

/// A template that names itself has an unknown field too, but a better explanation.
fn named_cycle(error: TopicError, itself: &str) -> TopicError {
    match error {
        TopicError::UnknownField { name, .. } if name == itself => TopicError::Cycle(name),
        other => other,
    }
}

fn checked(topic: String, origin: &Origin, report: &mut Report) -> Option<String> {
    match validate(&topic) {
        Ok(()) => Some(topic),
        Err(error) => {
            tell(origin, &error, report);
            None
        }
    }
}

fn tell(origin: &Origin, error: &TopicError, report: &mut Report) {
    let help = match error {
        TopicError::UnknownField { .. } | TopicError::Unclosed => "a brace itself is written `{{` or `}}`",
        TopicError::Cycle(_) => "start from `{base}` or `{gateway}`",
        _ => "a topic is a path such as `sensors/drone01/altitude`",
    };
    report.fault(origin, error.to_string(), help);
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn faults(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = fixture::config();
        change(&mut config);
        let mut report = Report::default();
        let templates = Templates::new(&config, &mut report);
        templates.render(&templates.status, &Fields::default(), &mut report);
        report.finish().err().unwrap_or_default().into_iter().map(|d| d.message).collect()
    }

    #[test]
    fn fields_are_filled_in() {
        let config = fixture::config();
        let mut report = Report::default();
        let templates = Templates::new(&config, &mut report);
        let fields = Fields { sensor: "roof", quantity: "altitude", parent: "x/y", ..Fields::default() };
        let mut rendered = |template: &Option<Template<'_>>| {
            templates.render(template.as_ref().expect("a default"), &fields, &mut report).expect("a topic")
        };
        assert_eq!(rendered(&templates.reading), "board2mqtt/drone01/roof/altitude");
        assert_eq!(rendered(&templates.history), "x/y/history");
        assert_eq!(rendered(&templates.get), "board2mqtt/drone01/get");
    }

    #[test]
    fn a_faulty_base_is_told_once() {
        assert_eq!(faults(|c| c.topics.base = fixture::located("a/+")), ["a topic must not contain the wildcard `+`"]);
        assert_eq!(faults(|c| c.topics.base = fixture::located("$x")).len(), 1);
        let cycle = faults(|c| c.topics.base = fixture::located("{base}/x"));
        assert_eq!(cycle, ["the template refers to itself through `{base}`"]);
    }

    #[test]
    fn templates_name_only_what_they_can_know() {
        let unknown = faults(|c| c.topics.status = fixture::located("{base}/{sensor}"));
        assert_eq!(unknown, ["unknown field `{sensor}`, allowed here: {base} {gateway}"]);
        let cycle = faults(|c| c.topics.reading = Some(fixture::located("{reading_topic}/x")));
        assert_eq!(cycle, ["the template refers to itself through `{reading_topic}`"]);
        assert_eq!(faults(|c| c.topics.output = fixture::located("{output_topic}")).len(), 1);
        assert_eq!(faults(|c| c.topics.set = fixture::located("{output_topic")), ["`{` without `}`"]);
    }
}
