//! Every answer of every test is compared with what the OpenAPI document says of its route: its
//! status, its media type, and its body down to the last field and code.

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::{Reply, Server, request};

/// The document, which is the same for every server; one that nobody needs a key for gives it.
pub(crate) async fn contract() -> &'static Contract {
    static DOCUMENT: OnceCell<Contract> = OnceCell::const_new();
    let read = async {
        let server = Server::start().await;
        let mut connection = server.connect().await;
        connection.send(&request(&server.address, "GET", "/openapi.json", &[], b"")).await;
        Contract(connection.reply().await.expect(200).json())
    };
    DOCUMENT.get_or_init(|| read).await
}

/// What is said of every answer.
pub(crate) struct Contract(Value);

impl Contract {
    pub(crate) fn document(&self) -> &Value {
        &self.0
    }

    /// Path, method, and what is said of it.
    pub(crate) fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let mut operations = Vec::new();
        for (path, methods) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                operations.push((path.as_str(), method.as_str(), operation));
            }
        }
        operations
    }

    /// Panics if the reply is not as the document says.
    pub(crate) fn check(&self, method: &str, path: &str, reply: &Reply) {
        let path = path.split('?').next().unwrap();
        let Some((template, methods)) = self.methods(path) else { return };
        let at = format!("{method} {template}");
        let Some(operation) = methods.get(method.to_ascii_lowercase()) else {
            let is_refused = [401, 403, 405].contains(&reply.status);
            assert!(is_refused || method == "HEAD", "{at}: {}", reply.status);
            return;
        };
        let stated = operation["responses"].get(reply.status.to_string());
        let stated = stated.unwrap_or_else(|| panic!("{at} may not answer {}", reply.status));
        let media_type = reply.header("content-type").unwrap().split(';').next().unwrap();
        let content = stated["content"].get(media_type);
        let content = content.unwrap_or_else(|| panic!("{at} may not answer {media_type}"));
        if media_type.ends_with("json") && !media_type.ends_with("ndjson") {
            let body = reply.json();
            if let Err(fault) = self.fits(&content["schema"], &body) {
                panic!("{at} {}: {fault}: {body:#}", reply.status);
            }
        }
    }

    /// What a schema stands for: where a reference leads, and the other of a choice with null.
    pub(crate) fn solid<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema.get("$ref") {
            let name = name.as_str().unwrap().rsplit('/').next().unwrap();
            return self.solid(&self.0["components"]["schemas"][name]);
        }
        match schema["oneOf"].as_array().map(Vec::as_slice) {
            Some([one, null]) if null["type"] == "null" => self.solid(one),
            Some([null, one]) if null["type"] == "null" => self.solid(one),
            _ => schema,
        }
    }

    pub(crate) fn takes_null(&self, schema: &Value) -> bool {
        self.fits(schema, &Value::Null).is_ok()
    }

    fn methods(&self, path: &str) -> Option<(&String, &Value)> {
        let mut paths = self.0["paths"].as_object().unwrap().iter();
        paths.find(|(template, _)| matches(template, path))
    }

    /// Whether a value is as a schema says; knows the words that our document has.
    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        if let Some(name) = schema.get("$ref") {
            let name = name.as_str().unwrap().rsplit('/').next().unwrap();
            let schema = self.0["components"]["schemas"].get(name);
            return self.fits(schema.unwrap_or_else(|| panic!("no schema {name}")), value);
        }
        if let Some(choices) = schema.get("oneOf") {
            return self.fits_one(choices.as_array().unwrap(), value);
        }
        fits_type(schema, value)?;
        match value {
            Value::Object(_) => self.fits_object(schema, value),
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.fits(&schema["items"], item))
            }
            Value::Number(number) => fits_bounds(schema, number.as_i64()),
            Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        }
    }

    fn fits_one(&self, choices: &[Value], value: &Value) -> Result<(), String> {
        let faults: Vec<_> =
            choices.iter().filter_map(|choice| self.fits(choice, value).err()).collect();
        if choices.len() - faults.len() == 1 { Ok(()) } else { Err(faults.join(", ")) }
    }

    fn fits_object(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.map(|name| name.as_str().unwrap()) {
            value.get(name).ok_or_else(|| format!("{name} is missing"))?;
        }
        for (name, member) in value.as_object().unwrap() {
            match schema["properties"].get(name) {
                Some(schema) => self.fits(schema, member).map_err(|e| format!("{name}: {e}"))?,
                None if schema["additionalProperties"] == false => {
                    return Err(format!("{name} is not stated"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Whether a path has the form of a template; a name in braces stands for one part, not empty.
fn matches(template: &str, path: &str) -> bool {
    let fits =
        |(want, have): (&str, &str)| want == have || want.starts_with('{') && !have.is_empty();
    let parts = template.split('/').zip(path.split('/'));
    template.split('/').count() == path.split('/').count() && parts.into_iter().all(fits)
}

fn fits_type(schema: &Value, value: &Value) -> Result<(), String> {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let named = |wanted: &Value| wanted == is;
    let wanted = &schema["type"];
    if !named(wanted) && !wanted.as_array().is_some_and(|types| types.iter().any(named)) {
        return Err(format!("is {is}, not {wanted}"));
    }
    match schema["enum"].as_array() {
        Some(values) if !values.contains(value) => Err(format!("is {value}, not of {values:?}")),
        Some(_) | None => Ok(()),
    }
}

fn fits_bounds(schema: &Value, number: Option<i64>) -> Result<(), String> {
    let number = number.ok_or("is too large")?;
    let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
    if (least..=most).contains(&number) {
        Ok(())
    } else {
        Err(format!("{number} is out of bounds"))
    }
}
