//! The small part of JSON Schema by which a plugin describes its template. Pure.
//!
//! A word that is not known is refused instead of passed over: a rule that is written down holds.

use serde_json::{Map, Value};

use crate::Problem;
use crate::fields::{join, kind};

/// Words that say something to people alone.
const SILENT: &[&str] = &[
    "$schema",
    "$id",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
];
/// Words that are rules here.
const RULES: &[&str] = &[
    "$ref",
    "type",
    "const",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "oneOf",
];
/// Deepest nesting of a schema and of what is checked by it.
const DEPTH_MAX: usize = 64;

/// A schema whose every word is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema(Value);

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// The first thing that is not understood, with where it stands.
    pub fn parse(schema: Value) -> Result<Self, String> {
        known(&schema, "", 0)?;
        Ok(Self(schema))
    }

    /// Everything that is wrong with `value`.
    #[must_use]
    pub fn check(&self, value: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        Checker { root: &self.0 }.check(&self.0, value, "", (&mut problems, 0));
        problems
    }

    /// The same, by one of the schema's `$defs`.
    #[must_use]
    pub fn check_as(&self, definition: &str, value: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        let schema = serde_json::json!({"$ref": format!("#/$defs/{definition}")});
        Checker { root: &self.0 }.check(&schema, value, "", (&mut problems, 0));
        problems
    }
}

fn known(schema: &Value, path: &str, depth: usize) -> Result<(), String> {
    let Value::Object(map) = schema else {
        return match schema {
            Value::Bool(_) => Ok(()),
            other => Err(format!("{path:?} is {}, not a schema", kind(other))),
        };
    };
    if depth > DEPTH_MAX {
        return Err(format!("{path:?} is nested too deep"));
    }
    for (word, value) in map {
        let path = join(path, word);
        if !SILENT.contains(&word.as_str()) && !RULES.contains(&word.as_str()) {
            return Err(format!(
                "{path:?} is not known; known are {}",
                RULES.join(", ")
            ));
        }
        match (word.as_str(), value) {
            ("properties" | "$defs", Value::Object(each)) => {
                for (name, schema) in each {
                    known(schema, &join(&path, name), depth + 1)?;
                }
            }
            ("items" | "additionalProperties", schema) => known(schema, &path, depth + 1)?,
            ("oneOf", Value::Array(each)) => {
                for (i, schema) in each.iter().enumerate() {
                    known(schema, &format!("{path}[{i}]"), depth + 1)?;
                }
            }
            ("properties" | "$defs" | "oneOf", other) => {
                return Err(format!("{path:?} cannot be {}", kind(other)));
            }
            (_, _) => {}
        }
    }
    Ok(())
}

struct Checker<'a> {
    root: &'a Value,
}

type Found<'p> = (&'p mut Vec<Problem>, usize);

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, path: &str, (found, depth): Found<'_>) {
        let mut say = |message: String| {
            found.push(Problem {
                path: path.to_owned(),
                message,
            });
        };
        let rules = match schema {
            Value::Object(rules) => rules,
            Value::Bool(true) => return,
            Value::Bool(false)
            | Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                return say("is not allowed here".to_owned());
            }
        };
        if depth > DEPTH_MAX {
            return say("is nested too deep".to_owned());
        }
        if let Some(Value::String(reference)) = rules.get("$ref") {
            let Some(schema) = self.root.pointer(reference.trim_start_matches('#')) else {
                return say(format!(
                    "is ruled by {reference}, which the schema does not have"
                ));
            };
            return self.check(schema, value, path, (found, depth + 1));
        }
        if let Some(message) = refused(rules, value) {
            say(message);
        }
        self.one_of(rules, value, path, (&mut *found, depth));
        match value {
            Value::Object(map) => self.fields(rules, map, path, (found, depth)),
            Value::Array(items) => {
                let Some(schema) = rules.get("items") else {
                    return;
                };
                for (i, item) in items.iter().enumerate() {
                    self.check(
                        schema,
                        item,
                        &format!("{path}[{i}]"),
                        (&mut *found, depth + 1),
                    );
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn one_of(
        &self,
        rules: &Map<String, Value>,
        value: &Value,
        path: &str,
        (found, depth): Found<'_>,
    ) {
        let Some(Value::Array(each)) = rules.get("oneOf") else {
            return;
        };
        let fits = |schema: &&Value| {
            let mut problems = Vec::new();
            self.check(schema, value, path, (&mut problems, depth + 1));
            problems.is_empty()
        };
        let fitting = each.iter().filter(fits).count();
        if fitting != 1 {
            found.push(Problem {
                path: path.to_owned(),
                message: format!("fits {fitting} of the {} shapes it may have", each.len()),
            });
        }
    }

    fn fields(
        &self,
        rules: &Map<String, Value>,
        map: &Map<String, Value>,
        path: &str,
        (found, depth): Found<'_>,
    ) {
        let none = Map::new();
        let properties = rules
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        let required = rules.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                found.push(Problem {
                    path: join(path, name),
                    message: "is missing".to_owned(),
                });
            }
        }
        for (name, value) in map {
            let at = join(path, name);
            match (properties.get(name), rules.get("additionalProperties")) {
                (Some(schema), _) => self.check(schema, value, &at, (&mut *found, depth + 1)),
                (None, Some(Value::Bool(false))) => {
                    let words: Vec<&str> = properties.keys().map(String::as_str).collect();
                    found.push(Problem {
                        path: at,
                        message: crate::fields::unknown(name, &words),
                    });
                }
                (None, Some(schema)) => self.check(schema, value, &at, (&mut *found, depth + 1)),
                (None, None) => {}
            }
        }
    }
}

/// Why a value breaks one of the rules that need no look into it.
fn refused(rules: &Map<String, Value>, value: &Value) -> Option<String> {
    if let Some(wanted) = rules.get("type")
        && !is_any(value, wanted)
    {
        return Some(format!("expected {}, found {}", words(wanted), kind(value)));
    }
    if let Some(wanted) = rules.get("const")
        && wanted != value
    {
        return Some(format!("expected {wanted}"));
    }
    if let Some(Value::Array(allowed)) = rules.get("enum")
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Some(format!("expected one of {}", allowed.join(", ")));
    }
    let bound = |word: &str| rules.get(word).and_then(Value::as_f64);
    let (low, high, size) = match value {
        Value::Number(number) => ("minimum", "maximum", number.as_f64()?),
        Value::String(text) => ("minLength", "maxLength", length(text.chars().count())),
        Value::Array(items) => ("minItems", "maxItems", length(items.len())),
        Value::Null | Value::Bool(_) | Value::Object(_) => return None,
    };
    if let Some(least) = bound(low).filter(|least| size < *least) {
        return Some(format!("is below the {low} of {least}"));
    }
    let most = bound(high).filter(|most| size > *most)?;
    Some(format!("is above the {high} of {most}"))
}

fn length(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn is_any(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Array(each) => each.iter().any(|one| is_any(value, one)),
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => false,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

fn words(wanted: &Value) -> String {
    match wanted {
        Value::Array(each) => each.iter().map(words).collect::<Vec<_>>().join(" or "),
        Value::String(name) => match name.as_str() {
            "array" => "a list".to_owned(),
            "string" => "text".to_owned(),
            "boolean" => "true or false".to_owned(),
            "integer" => "a whole number".to_owned(),
            "null" => "nothing".to_owned(),
            "object" => "an object".to_owned(),
            other => format!("a {other}"),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => wanted.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(schema: Value, value: &Value) -> Vec<(String, String)> {
        let problems = Schema::parse(schema).unwrap().check(value);
        problems.into_iter().map(|p| (p.path, p.message)).collect()
    }

    #[test]
    fn each_problem_has_its_path() {
        let schema = json!({
            "type": "object", "required": ["path"], "additionalProperties": false,
            "properties": {
                "path": {"type": "string", "minLength": 1},
                "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
                "mode": {"enum": ["a", "b"]},
            },
        });
        assert_eq!(
            said(
                schema.clone(),
                &json!({"path": "x", "ports": [80], "mode": "a"})
            ),
            []
        );
        let wrong = json!({"pth": "x", "ports": [80, 0, "x"], "mode": "c"});
        let paths: Vec<String> = said(schema.clone(), &wrong)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(paths, ["path", "mode", "ports[1]", "ports[2]", "pth"]);
        assert_eq!(
            said(schema, &json!([]))[0].1,
            "expected an object, found a list"
        );
    }

    #[test]
    fn a_word_that_is_not_known_is_refused() {
        let schema = json!({"properties": {"x": {"patternProperties": {}}}});
        let why = Schema::parse(schema).unwrap_err();
        assert!(why.contains("properties.x.patternProperties"), "{why}");
        assert!(Schema::parse(json!("x")).is_err());
    }

    #[test]
    fn one_shape_of_several_and_definitions_are_followed() {
        let schema = json!({
            "$defs": {"n": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}},
            "oneOf": [{"$ref": "#/$defs/n"}, {"type": "string"}],
        });
        assert_eq!(said(schema.clone(), &json!(1)), []);
        assert_eq!(said(schema.clone(), &json!(true)).len(), 1);
        let schema = Schema::parse(schema).unwrap();
        assert_eq!(
            schema.check_as("loop", &json!(1))[0].message,
            "is nested too deep"
        );
    }
}
