//! The ingest pipeline and the dashboard of `docs/elastic/observing.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use portway::outcome::Outcome;
use portway::status::remedy;
use serde_json::Value;
use strum::VariantArray;

use super::{quoted, root};

/// The processors of Elasticsearch that the pipeline uses, with the options of each. Those in the first list are required.
/// Each has the options of [`COMMON`] too.
const PROCESSORS: [(&str, &[&str], &[&str]); 8] = [
    ("append", &["field", "value"], &["allow_duplicates"]),
    (
        "date",
        &["field", "formats"],
        &["target_field", "timezone", "output_format"],
    ),
    ("grok", &["field", "patterns"], &["ignore_missing"]),
    ("lowercase", &["field"], &["target_field", "ignore_missing"]),
    ("remove", &["field"], &["ignore_missing"]),
    (
        "rename",
        &["field", "target_field"],
        &["ignore_missing", "override"],
    ),
    ("script", &["source"], &["lang", "params"]),
    (
        "set",
        &["field"],
        &["value", "copy_from", "override", "ignore_empty_value"],
    ),
];

/// The options of every processor.
const COMMON: [&str; 5] = ["if", "description", "tag", "ignore_failure", "on_failure"];

/// Fields of ECS that only portway itself knows.
const UNKNOWN: [&str; 2] = ["process.pid", "service.version"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names that lie between backticks in the first column of the tables of a page.
fn first_column(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

/// The fields of the connection log.
fn fields() -> BTreeSet<String> {
    let page = read("docs/log.md");
    first_column(page.split("\n## ").next().unwrap())
}

/// The fields of ECS that portway writes.
fn schema() -> BTreeSet<String> {
    let extract = read("tests/ecs/fields.csv");
    let rows = extract.lines().filter(|row| !row.starts_with('#'));
    let types = rows.map(|row| {
        let mut cells = row.split(',');
        (cells.next().unwrap(), cells.next().unwrap())
    });
    let fields = types.filter(|(_, kind)| *kind != "object");
    fields.map(|(name, _)| name.to_owned()).collect()
}

/// The processors, each with its options, those after a failure too.
fn processors() -> Vec<(String, BTreeMap<String, Value>)> {
    let pipeline: Value =
        serde_json::from_str(&read("deploy/elastic/ingest-pipeline.json")).unwrap();
    let part = |name| {
        pipeline
            .get(name)
            .and_then(Value::as_array)
            .unwrap()
            .clone()
    };
    let both = [part("processors"), part("on_failure")];
    let each = both.concat().into_iter().map(|processor| {
        let named: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_value(processor).unwrap();
        assert_eq!(named.len(), 1, "{named:?}");
        named.into_iter().next().unwrap()
    });
    each.collect()
}

/// The words of a text of these characters that begin with a prefix.
fn names<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)));
    words.filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn the_pipeline_has_only_processors_and_options_that_exist() {
    for (name, options) in processors() {
        let known = PROCESSORS.iter().find(|(known, ..)| **known == name);
        let (_, required, others) = known.unwrap_or_else(|| panic!("{name}"));
        for option in *required {
            assert!(
                options.contains_key(*option),
                "{name} without {option}: {options:?}"
            );
        }
        for option in options.keys().map(String::as_str) {
            let is_known = [required, others].iter().any(|list| list.contains(&option));
            assert!(is_known || COMMON.contains(&option), "{name}: {option}");
        }
        if name == "set" {
            let given = ["value", "copy_from"].map(|it| options.contains_key(it));
            assert!(given[0] != given[1], "{options:?}");
        }
        if let Some(condition) = options.get("if") {
            // A line may have any field or none.
            let condition = condition.as_str().unwrap();
            assert!(
                condition.contains("?.") && !condition.contains("ctx.portway."),
                "{condition}"
            );
        }
    }
}

/// The texts of an option: one, or those of a list.
fn texts(value: &Value) -> Vec<String> {
    let list = (value.as_array()).map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = list.iter().filter_map(Value::as_str);
    texts.map(|text| text.replace("?.", ".")).collect()
}

/// The native fields that a processor reads.
fn read_by(options: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    for text in options.values().flat_map(texts) {
        let conditions = names(&text, "ctx.portway.").into_iter();
        let conditions = conditions.filter_map(|name| name.strip_prefix("ctx."));
        let of_scripts = names(&text, "line.").into_iter();
        let fields = names(&text, "portway.").into_iter();
        let fields = fields.chain(conditions).chain(of_scripts);
        read.extend(fields.map(|field| field.split('.').nth(1).unwrap().to_owned()));
    }
    // A method of a map.
    read.remove("remove");
    read
}

/// The fields that a processor writes.
fn written_by(name: &str, options: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let keys = ["field", "target_field"].into_iter();
    let fields = keys.filter_map(|key| Some(options.get(key)?.as_str()?.to_owned()));
    let mut written: BTreeSet<String> = fields.collect();
    for text in options.values().flat_map(texts) {
        let more: Vec<&str> = match name {
            "grok" => {
                let captures = text.split("%{").skip(1);
                let names = captures.map(|it| it.split([':', '}']).nth(1).unwrap());
                names.collect()
            }
            "script" => {
                let sides = text
                    .lines()
                    .filter_map(|line| line.trim().split_once(" = "));
                let fields = sides.map(|(field, _)| field.trim_start_matches("ctx."));
                let is_field = |it: &&str| it.contains('.') || *it == "message";
                fields.filter(is_field).collect()
            }
            "date" => vec!["@timestamp"],
            _ => Vec::new(),
        };
        written.extend(more.into_iter().map(str::to_owned));
    }
    written
}

#[test]
fn the_pipeline_reads_the_fields_of_the_log() {
    let (fields, processors) = (fields(), processors());
    let each = processors.iter().flat_map(|(_, options)| read_by(options));
    let read: BTreeSet<String> = each.collect();
    // Those of the program log, and of the lines that sum others up.
    let others = ["level", "fields", "program", "suppressed", "connections"];
    for field in &read {
        let is_known = fields.contains(field) || others.contains(&&**field);
        assert!(is_known, "{field} is not in the log");
    }
    for native in [
        "time",
        "client",
        "server_name",
        "backend_local",
        "duration_ms",
        "detail",
    ] {
        assert!(read.contains(native), "{native} is not read");
    }
}

/// The native fields that have another place in ECS, from the table of the page.
fn moved() -> BTreeSet<String> {
    let page = read("docs/log.md");
    let (_, table) = page.split_once("\n| native | ECS |\n").unwrap();
    let table = table.split("\n\n").next().unwrap();
    let mut moved = first_column(table);
    // They stay under their own names too.
    for kept in ["endpoint", "outcome"] {
        assert!(moved.remove(kept), "{kept}");
    }
    moved
}

#[test]
fn the_pipeline_moves_each_field_that_has_another_place_in_ecs_and_no_other_one() {
    let mut gone = BTreeSet::new();
    for (name, options) in processors() {
        let field = options.get("field").and_then(Value::as_str);
        let takes_away = ["rename", "remove"].contains(&&*name);
        gone.extend(field.filter(|_| takes_away).map(str::to_owned));
        let source = options.get("source").and_then(Value::as_str);
        let removals = source.into_iter().flat_map(|it| it.split("line.remove('"));
        let fields = removals.skip(1).filter_map(|it| it.split('\'').next());
        gone.extend(fields.map(|field| format!("portway.{field}")));
    }
    // Lines of the program log have no other field of a connection; `target` is the module there.
    let mut own = gone.iter().filter_map(|it| it.strip_prefix("portway."));
    let fields = fields();
    let mut found: BTreeSet<String> = own
        .by_ref()
        .filter(|it| fields.contains(*it))
        .map(str::to_owned)
        .collect();
    assert!(found.remove("target"));
    assert_eq!(found, moved());
}

#[test]
fn the_pipeline_writes_the_fields_of_the_schema() {
    let processors = processors();
    let each = processors
        .iter()
        .flat_map(|(name, options)| written_by(name, options));
    let mut written: BTreeSet<String> = each.collect();
    // Both ends are copied whole.
    for (from, to) in [("source.", "client."), ("destination.", "server.")] {
        assert!(written.remove(to.trim_end_matches('.')));
        let copies = written.iter().filter_map(|it| it.strip_prefix(from));
        let copies: Vec<String> = copies.map(|it| format!("{to}{it}")).collect();
        written.extend(copies);
    }
    written.retain(|it| !it.starts_with("portway."));
    let mut known = schema();
    known.retain(|it| !UNKNOWN.contains(&&**it));
    assert_eq!(written, known);
}

#[test]
fn the_pipeline_knows_which_outcomes_are_denials() {
    let params = processors()
        .into_iter()
        .find_map(|(_, options)| options.get("params").cloned());
    let told: BTreeSet<String> = serde_json::from_value(params.unwrap()["denied"].clone()).unwrap();
    let denied = Outcome::VARIANTS
        .iter()
        .filter(|outcome| outcome.is_denied());
    assert_eq!(
        told,
        denied.map(|outcome| outcome.name().to_owned()).collect()
    );
}

/// The saved object of a type.
fn saved_object(kind: &str) -> Value {
    let text = read("deploy/elastic/dashboard.ndjson");
    let objects = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found = objects.filter(|object| part(object, "/type") == kind);
    found.next().unwrap()
}

/// A value that is JSON in a text.
fn inner(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

/// Whether the log in ECS has this field, or a shipper adds it.
fn is_collected(field: &str) -> bool {
    let own = field.strip_prefix("portway.");
    own.map_or_else(
        || schema().contains(field) || ["host.name", "___records___"].contains(&field),
        |own| fields().contains(own) || own == "suppressed",
    )
}

/// A part of an object, by a JSON pointer (RFC 6901).
fn part<'o>(object: &'o Value, pointer: &str) -> &'o Value {
    let found = object.pointer(pointer);
    found.unwrap_or_else(|| panic!("no {pointer} in {object}"))
}

/// Whether the dashboard refers to the data view under this name.
fn is_referred(name: &str) -> bool {
    let (view, dashboard) = (saved_object("index-pattern"), saved_object("dashboard"));
    let id = part(&view, "/id");
    let references = part(&dashboard, "/references").as_array().unwrap();
    let mut found = references.iter().filter(|it| part(it, "/name") == name);
    found.any(|it| part(it, "/id") == id && part(it, "/type") == "index-pattern")
}

/// The panels, with their names.
fn panels() -> Vec<(String, Value)> {
    let panels = inner(part(&saved_object("dashboard"), "/attributes/panelsJSON"));
    let panels = panels.as_array().unwrap().iter();
    let named = |panel| {
        (
            part(panel, "/panelIndex").as_str().unwrap().to_owned(),
            panel.clone(),
        )
    };
    panels.map(named).collect()
}

/// The layers of a panel, and their columns.
fn layers(panel: &Value) -> Vec<(&String, &Value)> {
    let state = part(panel, "/embeddableConfig/attributes/state");
    let layers = part(state, "/datasourceStates/formBased/layers");
    layers.as_object().unwrap().iter().collect()
}

#[test]
fn the_panels_lie_below_each_other_within_the_grid() {
    let mut bottom = 0;
    for (name, panel) in panels() {
        let number = |key| part(&panel, &format!("/gridData/{key}")).as_u64().unwrap();
        let [x, y, w, h] = ["x", "y", "w", "h"].map(number);
        assert!(x + w <= 48 && y <= bottom, "{name}");
        bottom = bottom.max(y + h);
    }
}

#[test]
fn every_panel_shows_its_columns_and_refers_to_the_data_view() {
    for (name, panel) in panels() {
        let shown = part(&panel, "/embeddableConfig/attributes/state/visualization").to_string();
        for (layer, of_layer) in layers(&panel) {
            let reference = format!("{name}:indexpattern-datasource-layer-{layer}");
            assert!(is_referred(&reference), "{reference}");
            let columns = part(of_layer, "/columns").as_object().unwrap();
            let order = part(of_layer, "/columnOrder").as_array().unwrap();
            let order: BTreeSet<&str> = order.iter().filter_map(Value::as_str).collect();
            assert_eq!(
                order,
                columns.keys().map(String::as_str).collect(),
                "{name}"
            );
            for (id, column) in columns {
                assert!(
                    shown.contains(&format!("{id:?}")),
                    "{name} does not show {id}"
                );
                if let Some(sorted) = column.pointer("/params/orderBy/columnId") {
                    let by = &columns[sorted.as_str().unwrap()];
                    assert_eq!(part(by, "/isBucketed"), false, "{name}: {id}");
                }
            }
        }
    }
}

#[test]
fn every_panel_is_about_fields_of_the_log() {
    let mut shown = BTreeSet::new();
    for (name, panel) in panels() {
        let layers = layers(&panel).into_iter();
        let columns = layers.flat_map(|(_, layer)| part(layer, "/columns").as_object().unwrap());
        let fields = columns.map(|(_, column)| part(column, "/sourceField").as_str().unwrap());
        let query = part(&panel, "/embeddableConfig/attributes/state/query/query");
        let conditions = query.as_str().unwrap().split(" and ");
        let conditions = conditions.map(|it| it.trim_start_matches("not "));
        let conditions = conditions.map(|it| it.split([':', ' ']).next().unwrap());
        for field in fields.chain(conditions) {
            assert!(is_collected(field), "{name}: {field}");
            shown.insert(field.to_owned());
        }
    }
    for field in [
        "portway.outcome",
        "source.ip",
        "event.reason",
        "portway.suppressed",
    ] {
        assert!(shown.contains(field), "{field}");
    }
}

/// The outcomes that the query of a panel leaves out.
fn left_out(panel: &str) -> BTreeSet<String> {
    let panels = panels();
    let (_, panel) = panels.iter().find(|(name, _)| name == panel).unwrap();
    let query = part(panel, "/embeddableConfig/attributes/state/query/query");
    let query = query.as_str().unwrap();
    let outcomes = query.split_once("not portway.outcome: (").unwrap().1;
    let outcomes = outcomes.split_once(')').unwrap().0.split(" or ");
    outcomes.map(|it| it.trim_matches('"').to_owned()).collect()
}

#[test]
fn the_panels_of_failures_have_every_outcome_that_needs_something() {
    let needs_nothing = Outcome::VARIANTS.iter().filter(|outcome| {
        // The log has no probe, and the failures no `closed`.
        let is_there = ![Outcome::Probe, Outcome::Closed].contains(*outcome);
        is_there && remedy(**outcome, None).is_none()
    });
    let needs_nothing: BTreeSet<String> = needs_nothing
        .map(|outcome| outcome.name().to_owned())
        .collect();
    for panel in ["denied", "refused", "failed", "backends"] {
        assert_eq!(left_out(panel), needs_nothing, "{panel}");
    }
}

#[test]
fn the_pipeline_takes_port_0_which_a_proxy_header_may_have() {
    let patterns = processors().into_iter().filter(|(name, _)| name == "grok");
    let patterns = patterns.map(|(_, options)| options["patterns"].to_string());
    let patterns: String = patterns.collect();
    // POSINT of grok begins with 1 to 9.
    assert!(patterns.contains("port:long}") && !patterns.contains("POSINT"));
}

#[test]
fn the_controls_are_about_fields_of_the_log_and_the_page_names_the_data_view() {
    let dashboard = saved_object("dashboard");
    let controls = part(&dashboard, "/attributes/controlGroupInput/panelsJSON");
    for (name, control) in inner(controls).as_object().unwrap() {
        let field = part(control, "/explicitInput/fieldName").as_str().unwrap();
        assert!(is_collected(field), "{field}");
        let reference = format!("controlGroup_{name}:optionsListDataView");
        assert!(is_referred(&reference), "{reference}");
    }
    let view = saved_object("index-pattern");
    let title = part(&view, "/attributes/title").as_str().unwrap();
    let page = read("docs/elastic/observing.md");
    assert!(quoted(&page).iter().any(|it| it == title), "{title}");
}
