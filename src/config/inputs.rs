//! Reads `[inputs.*]`, and GPIO lines wherever they stand.

use super::reader::View;
use super::sensors::{name_of, named};
use super::tree::Data;
use super::values::Fit;
use super::{Count, CountEdge, Input, Located};
use crate::line::{Active, Bias, LineId};

/// `[inputs.*]`
pub(super) fn inputs(root: &View<'_>) -> Vec<Input> {
    named(root, "inputs", |view| input(&view.only_known_keys()))
}

fn input(view: &View<'_>) -> Option<Input> {
    if view.node("line").is_none() {
        view.missing("line");
    }
    let line = line(view);
    let active = active(view);
    let bias = view.choice("bias", [Bias::AsIs, Bias::Disabled, Bias::PullUp, Bias::PullDown]);
    let debounce = view.value("debounce");
    let count = view.table("count").map(|table| count(&table));
    let (topic, qos, retain) = (view.optional("topic"), view.plain("qos"), view.plain("retain"));
    Some(Input { name: name_of(view), line: line?, active, bias, debounce, count, topic, qos, retain })
}

fn count(view: &View<'_>) -> Count {
    Count {
        edge: view.choice("edge", [CountEdge::Rising, CountEdge::Falling, CountEdge::Both]),
        per_pulse: view.value("per_pulse"),
        unit: view.value("unit"),
        interval: view.value("interval"),
    }
}

/// `active`
pub(super) fn active(view: &View<'_>) -> Active {
    view.choice("active", [Active::High, Active::Low])
}

/// `line`: a name, or chip and offset; what is neither has been noted.
pub(super) fn line(view: &View<'_>) -> Option<Located<LineId>> {
    let node = view.node("line")?;
    let origin = node.origin.clone();
    let value = if let Data::Table(_) = node.data {
        let table = view.table_in("line", node)?;
        let (chip, offset) = (table.required::<String>("chip"), table.required("offset"));
        LineId::Offset { chip: chip?.value, offset: offset?.value }
    } else {
        let Some(name) = String::fit(&node.data, super::keys::Kind::Line) else {
            view.misfit("line", node);
            return None;
        };
        LineId::Name(name)
    };
    Some(Located { value, origin })
}
