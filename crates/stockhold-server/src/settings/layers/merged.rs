//! Layers laid over each other as tables, with the place that said each setting.

use std::{collections::BTreeMap, path::Path};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    super::{DEFAULTS, Settings},
    Origin, SettingsError,
};

/// Names of variables that are shorter than the rule.
const SHORT_NAMES: [(&str, &str); 3] = [
    ("STOCKHOLD_LEDGER", "ledger.url"),
    ("STOCKHOLD_LISTEN", "server.listen"),
    ("STOCKHOLD_REDIS", "redis.url"),
];
/// Sections of which a file may hold any number; the defaults have none.
const LISTS: [&str; 1] = ["keys"];

/// Everything that was said so far, and by whom, by the path of the setting.
pub(super) struct Merged {
    defaults: Table,
    table: Table,
    said: BTreeMap<String, Origin>,
}

impl Merged {
    pub(super) fn defaults() -> Result<Self, SettingsError> {
        let defaults: Result<Table, _> = toml::from_str(DEFAULTS);
        let defaults = defaults.map_err(|e| Origin::Defaults.error(e.message()))?;
        Ok(Self { table: defaults.clone(), defaults, said: BTreeMap::new() })
    }

    pub(super) fn lay_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let at = |offset| Origin::File(path.to_owned(), line_at(text, offset));
        let wrong =
            |e: &toml::de::Error| at(e.span().map_or(0, |span| span.start)).error(e.message());
        let document = DeTable::parse(text).map_err(|e| wrong(&e))?;
        let values: Table = toml::from_str(text).map_err(|e| wrong(&e))?;
        for (section, settings) in document.get_ref() {
            self.check_known(section, settings, at)?;
            self.note(section.get_ref(), settings, at);
        }
        for (section, settings) in values {
            match (self.table.get_mut(&section), settings) {
                (Some(Value::Table(below)), Value::Table(above)) => below.extend(above),
                (_, settings) => drop(self.table.insert(section, settings)),
            }
        }
        Ok(())
    }

    /// A name that the defaults do not have is one that nobody would ever look at.
    fn check_known(
        &self,
        section: &Spanned<impl AsRef<str>>,
        settings: &Spanned<DeValue<'_>>,
        at: impl Fn(usize) -> Origin,
    ) -> Result<(), SettingsError> {
        let name = section.get_ref().as_ref();
        if LISTS.contains(&name) {
            return Ok(());
        }
        let Some(known) = self.defaults.get(name).and_then(Value::as_table) else {
            let there_are = names(self.defaults.keys().map(String::as_str).chain(LISTS));
            let message = format!("there is no section {name}; there are {there_are}");
            return Err(at(section.span().start).error(message));
        };
        let DeValue::Table(settings) = settings.get_ref() else { return Ok(()) };
        match settings.keys().find(|key| !known.contains_key(&**key.get_ref())) {
            None => Ok(()),
            Some(key) => {
                let message = unknown(name, key.get_ref(), known);
                Err(at(key.span().start).error(message))
            }
        }
    }

    /// Notes where each setting stands.
    fn note(
        &mut self,
        path: &str,
        value: &Spanned<DeValue<'_>>,
        at: impl Fn(usize) -> Origin + Copy,
    ) {
        match value.get_ref() {
            DeValue::Table(settings) => {
                for (key, value) in settings {
                    let path = format!("{path}.{}", key.get_ref());
                    self.said.insert(path.clone(), at(key.span().start));
                    self.note(&path, value, at);
                }
            }
            DeValue::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    let path = format!("{path}[{n}]");
                    self.said.insert(path.clone(), at(item.span().start));
                    self.note(&path, item, at);
                }
            }
            _ => drop(self.said.insert(path.to_owned(), at(value.span().start))),
        }
    }

    /// The setting that a variable names, if it is one of ours.
    pub(super) fn named_by(&self, variable: &str) -> Result<Option<String>, SettingsError> {
        if let Some((_, setting)) = SHORT_NAMES.iter().find(|(name, _)| *name == variable) {
            return Ok(Some((*setting).to_owned()));
        }
        let sections =
            self.defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?)));
        for (section, settings) in sections {
            let Some(key) = variable.strip_prefix(&variable_of(section, "")) else { continue };
            let key = key.to_ascii_lowercase();
            if settings.contains_key(&key) {
                return Ok(Some(format!("{section}.{key}")));
            }
            let message = unknown(section, &key, settings);
            return Err(Origin::Variable(variable.to_owned()).error(message));
        }
        Ok(None)
    }

    /// The environment and flags have words only: what sort of value is meant, the default says.
    pub(super) fn lay_word(&mut self, setting: &str, text: &str, origin: Origin) {
        let Some((section, key)) = setting.split_once('.') else { return };
        let sort = self.defaults.get(section).and_then(|section| section.get(key));
        let value = match sort {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            _ => None,
        };
        // What cannot be read is left as it is: reading it will say what is expected.
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        if let Some(Value::Table(section)) = self.table.get_mut(section) {
            section.insert(key.to_owned(), value);
            self.said.insert(setting.to_owned(), origin);
        }
    }

    pub(super) fn read(self) -> Result<Settings, SettingsError> {
        let Self { table, said, .. } = self;
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(table))
            .map_err(|e| complaint(&said, &e.path().to_string(), e.inner().message()))?;
        settings.check().map_err(|(setting, rule)| complaint(&said, &setting, &rule))?;
        Ok(settings)
    }
}

fn complaint(said: &BTreeMap<String, Origin>, setting: &str, wrong: &str) -> SettingsError {
    let origin = who_said(said, setting).cloned().unwrap_or(Origin::Defaults);
    origin.error(format!("{setting}: {wrong}"))
}

/// Whoever said it, or the nearest thing around it, or what it has to fit to.
fn who_said<'a>(said: &'a BTreeMap<String, Origin>, setting: &str) -> Option<&'a Origin> {
    let mut place = setting;
    while let Some(end) = place.rfind(['.', '[']) {
        if let Some(origin) = said.get(place) {
            return Some(origin);
        }
        place = place.get(..end)?;
    }
    said.iter().find(|(other, _)| other.starts_with(place)).map(|(_, origin)| origin)
}

fn unknown(section: &str, key: &str, known: &Table) -> String {
    let there_are = names(known.keys().map(String::as_str));
    format!("there is no setting {section}.{key}; [{section}] has {there_are}")
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The variable that says the same as a setting.
pub(in crate::settings) fn variable_of(section: &str, key: &str) -> String {
    format!("STOCKHOLD_{section}_{key}").to_ascii_uppercase()
}

/// The line of a text in which this byte is, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count().saturating_add(1)
}
