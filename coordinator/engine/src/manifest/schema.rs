//! A JSON Schema (draft 2020-12) of manifests, for editors, from the same tables as the check.

use serde_json::{Map, Value, json};

use crate::expression::TEXT_MAX_BYTES;
use crate::manifest::kinds::{API_VERSION, Kind, LABELLED, bounded};
use crate::manifest::shape::{Field, Grammar, Need, Object, Shape, Word};

/// The schema of one document of any kind.
#[must_use]
pub fn schema() -> Value {
    let kinds: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| object(kind.document(), true))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast manifest",
        "description": "One document of a Holdfast manifest file.",
        "oneOf": kinds,
    })
}

fn object(object: &'static Object, whole: bool) -> Value {
    let fields = || object.fields().filter(|f| !f.is_refused());
    let properties: Map<String, Value> = fields()
        .map(|f| (f.name.to_owned(), field(f, whole)))
        .collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    let required: Vec<_> = fields()
        .filter(|f| matches!(f.need, Need::Required))
        .map(|f| f.name)
        .collect();
    if whole && !required.is_empty() {
        schema["required"] = json!(required);
    }
    if whole && !object.one_of.is_empty() {
        let one: Vec<_> = object
            .one_of
            .iter()
            .map(|name| json!({"required": [name]}))
            .collect();
        schema["oneOf"] = json!(one);
    }
    schema
}

fn field(field: &'static Field, whole: bool) -> Value {
    let mut schema = value(&field.shape, whole);
    schema["description"] = json!(field.doc);
    if let (Need::Default(default), true) = (&field.need, whole) {
        schema["default"] = serde_json::from_str(default).expect("defaults are written as JSON");
    }
    if matches!(field.need, Need::Required) {
        return schema;
    }
    // What may be left out may be null as well.
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) => kinds.push(json!("null")),
        Some(kind) => *kind = json!([kind.take(), "null"]),
        None => {}
    }
    schema
}

fn value(shape: &'static Shape, whole: bool) -> Value {
    match shape {
        Shape::Object(fields) => object(fields, whole),
        Shape::Overrides(fields) => object(fields, false),
        Shape::Table { key, value: of } => json!({
            "type": "object",
            "propertyNames": text(*key),
            "additionalProperties": value(of, whole),
        }),
        Shape::List(of) => json!({"type": "array", "items": value(of, true)}),
        Shape::Some(of) => json!({"type": "array", "items": value(of, true), "minItems": 1}),
        Shape::Text(grammar) => text(*grammar),
        Shape::Word(words) => json!({"oneOf": self::words(words)}),
        Shape::Count { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::Span { .. } => json!({
            "type": "string",
            "pattern": r"^([0-9]+(ms|s|m|h|d) *)+$",
            "examples": ["30s", "10m", "1h 30m"],
        }),
        Shape::Extent => json!({"oneOf": extent()}),
        Shape::Wave => {
            let mut kinds = extent();
            kinds.push(object(&LABELLED, true));
            json!({"oneOf": kinds})
        }
        Shape::Percent => json!({"type": "string", "pattern": "^([0-9]|[1-9][0-9]|100)%$"}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Any => json!({}),
        Shape::AnyObject => json!({"type": "object"}),
        Shape::Scalar => json!({"type": ["string", "number", "boolean"]}),
        Shape::Real => json!({"type": "number"}),
        Shape::Expression(names) => json!({
            "type": "string",
            "maxLength": TEXT_MAX_BYTES,
            "$comment": format!("CEL over {}", names.join(", ")),
        }),
        Shape::Window(of) | Shape::Use(of) => object(of, true),
        Shape::Limits => limits(),
        Shape::TextOr(grammar, of) => json!({"oneOf": [text(*grammar), object(of, true)]}),
        Shape::WordOr(words, of) => {
            let mut kinds = self::words(words);
            kinds.push(object(of, true));
            json!({"oneOf": kinds})
        }
        Shape::FlagOr(of) => json!({"oneOf": [{"type": "boolean"}, object(of, true)]}),
    }
}

fn words(words: &'static [Word]) -> Vec<Value> {
    let one = |w: &Word| json!({"const": w.word, "description": w.doc});
    words.iter().map(one).collect()
}

fn extent() -> Vec<Value> {
    vec![
        json!({"type": "integer", "minimum": 1}),
        json!({"type": "string", "pattern": "^([1-9][0-9]?|100)%$"}),
    ]
}

/// Bounds by path, each like the field that it bounds.
fn limits() -> Value {
    let bounds = |(path, field): (String, &'static Field)| {
        let of = value(&field.shape, true);
        let bound = json!({
            "type": "object",
            "additionalProperties": false,
            "minProperties": 1,
            "properties": {
                "atLeast": described(of.clone(), "The least that is allowed."),
                "atMost": described(of, "The most that is allowed."),
            },
        });
        (path, described(bound, field.doc))
    };
    let properties: Map<String, Value> = bounded().map(bounds).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn described(mut schema: Value, doc: &str) -> Value {
    schema["description"] = json!(doc);
    schema
}

fn text(grammar: Grammar) -> Value {
    let pattern = match grammar {
        Grammar::ApiVersion => return json!({"const": API_VERSION}),
        Grammar::Name => "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        Grammar::Variable => "^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        Grammar::LabelKey => "^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$",
        Grammar::LabelValue => "^[A-Za-z0-9._+-]{0,63}$",
        Grammar::FileName => "^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$",
        Grammar::Repository => "^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
        Grammar::Host => "^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?$",
        Grammar::Runtime => "^(plugin/)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        Grammar::Version => "^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$",
        Grammar::Url => "^(https?://|.*\\{\\{)",
        Grammar::Address => "^https?://",
        Grammar::Line => "^[^\\n]*$",
        Grammar::Range | Grammar::Template => return json!({"type": "string"}),
    };
    json!({"type": "string", "pattern": pattern})
}
