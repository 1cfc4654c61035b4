//! Where settings come from, and who said what: the defaults, a file, the environment, flags.
//!
//! All of them are laid over each other as tables, and read as one. What is wrong is told with
//! the place that said it. The defaults say which settings there are.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{DEFAULTS, Settings};

/// Names of variables that are shorter than the rule.
const SHORT_NAMES: [(&str, &str); 2] =
    [("STOCKHOLD_LEDGER", "ledger.url"), ("STOCKHOLD_LISTEN", "server.listen")];
/// Sections of which a file may hold any number; the defaults have none.
const LISTS: [&str; 1] = ["keys"];

/// What was said, and where.
///
/// ```
/// # use stockhold_server::settings::Layers;
/// let settings = Layers::default()
///     .file("shop.toml", "[server]\nmax_connections = 100\nreaders = 2")
///     .read();
/// let complaint = settings.unwrap_err().to_string();
/// assert!(complaint.starts_with("shop.toml, line 3: there is no setting server.readers"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Option<(PathBuf, String)>,
    variables: BTreeMap<String, String>,
    flags: Vec<(&'static str, &'static str, String)>,
}

impl Layers {
    /// Lays the text of a file over the defaults.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((path.into(), text.into()));
        self
    }

    /// Lays the environment over the file. Variables of others are no matter.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Lays a flag over all of them, if it was given.
    #[must_use]
    pub fn flag(
        mut self,
        flag: &'static str,
        setting: &'static str,
        value: Option<impl fmt::Display>,
    ) -> Self {
        self.flags.extend(value.map(|value| (flag, setting, value.to_string())));
        self
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Says what is wrong, what is allowed, and where it stands.
    pub fn read(&self) -> Result<Settings, SettingsError> {
        let mut merged = Merged::defaults()?;
        if let Some((path, text)) = &self.file {
            merged.lay_file(path, text)?;
        }
        for (name, text) in &self.variables {
            if let Some(setting) = merged.named_by(name)? {
                merged.lay_word(&setting, text, Origin::Variable(name.clone()));
            }
        }
        for (flag, setting, text) in &self.flags {
            merged.lay_word(setting, text, Origin::Flag(flag));
        }
        merged.read()
    }
}

/// A setting that is not what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    origin: Origin,
    message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

impl std::error::Error for SettingsError {}

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Defaults,
    File(PathBuf, usize),
    Variable(String),
    Flag(&'static str),
}

impl Origin {
    fn error(self, message: impl Into<String>) -> SettingsError {
        SettingsError { origin: self, message: message.into() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("default.toml"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

/// Everything that was said so far, and by whom, by the path of the setting.
struct Merged {
    defaults: Table,
    table: Table,
    said: BTreeMap<String, Origin>,
}

impl Merged {
    fn defaults() -> Result<Self, SettingsError> {
        let defaults: Result<Table, _> = toml::from_str(DEFAULTS);
        let defaults = defaults.map_err(|e| Origin::Defaults.error(e.message()))?;
        Ok(Self { table: defaults.clone(), defaults, said: BTreeMap::new() })
    }

    fn lay_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
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
    fn named_by(&self, variable: &str) -> Result<Option<String>, SettingsError> {
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
    fn lay_word(&mut self, setting: &str, text: &str, origin: Origin) {
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

    fn read(self) -> Result<Settings, SettingsError> {
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
pub(super) fn variable_of(section: &str, key: &str) -> String {
    format!("STOCKHOLD_{section}_{key}").to_ascii_uppercase()
}

/// The line of a text in which this byte is, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::LogFormat;

    fn of_file(text: &str) -> Result<Settings, String> {
        Layers::default().file("a.toml", text).read().map_err(|e| e.to_string())
    }

    fn of_variable(name: &str, value: &str) -> Result<Settings, String> {
        let variable = (name.to_owned(), value.to_owned());
        Layers::default().environment([variable]).read().map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let settings = Settings::default();
        assert_eq!(settings.limits.to_core(), stockhold::Limits::default());
        assert_eq!(settings.to_engine(), stockhold::Settings::default());
        assert_eq!((settings.log.format, settings.keys.len()), (LogFormat::Text, 0));
    }

    #[test]
    fn a_file_needs_to_name_only_what_differs() {
        let settings =
            of_file("[server]\nmax_connections = 7\n[limits]\ndefault_ttl = \"1m\"").unwrap();
        assert_eq!(settings.server.max_connections.get(), 7);
        assert_eq!(settings.limits.default_ttl.get(), Duration::from_secs(60));
        assert_eq!(settings.server.listen, Settings::default().server.listen);
        assert_eq!(of_file("server.insecure = true").map(|s| s.server.insecure), Ok(true));
    }

    #[test]
    fn each_layer_goes_before_the_one_below() {
        let most = |layers: Layers| layers.read().unwrap().server.max_connections.get();
        let file = Layers::default().file("a.toml", "[server]\nmax_connections = 2");
        let variable = ("STOCKHOLD_SERVER_MAX_CONNECTIONS".to_owned(), "3".to_owned());
        let both = file.clone().environment([variable]);
        assert_eq!((most(Layers::default()), most(file), most(both.clone())), (4_096, 2, 3));
        assert_eq!(most(both.flag("--most", "server.max_connections", Some(4))), 4);
    }

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line() {
        for (text, complaint) in [
            ("[server]\n\nlisten = 5", "a.toml, line 3: server.listen: invalid type"),
            ("[server]\nlisten = \"here\"", "a.toml, line 2: server.listen: "),
            ("[server]\nlisten = ", "a.toml, line 2: "),
            ("[sever]", "a.toml, line 1: there is no section sever; there are engine, "),
            ("\nsever = 1", "a.toml, line 2: there is no section sever"),
            ("server = 1", "a.toml, line 1: server: invalid type"),
            (
                "[limits]\nx = 1",
                "a.toml, line 2: there is no setting limits.x; [limits] has default_ttl, ",
            ),
            (
                "[server]\nmax_connections = 0",
                "a.toml, line 2: server.max_connections: invalid value: integer `0`, expected a whole number from 1 to 1000000",
            ),
            (
                "[limits]\n\nmax_ttl = \"8d\"",
                "a.toml, line 3: limits.max_ttl: invalid value: string \"8d\", expected a duration from \"1ms\" to \"7d\"",
            ),
            (
                "[limits]\nmax_ttl = \"1s\"",
                "a.toml, line 2: limits.default_ttl: must be between min_ttl and max_ttl",
            ),
            (
                "[log]\nformat = \"xml\"",
                "a.toml, line 2: log.format: unknown variant `xml`, expected `text` or `json`",
            ),
            (
                "[ledger]\nurl = \"x\"",
                "a.toml, line 2: ledger.url: a ledger is sqlite:PATH or memory:",
            ),
            ("[server]\ntls_key = \"x\"", "a.toml, line 2: server.tls_key: "),
        ] {
            let told = of_file(text).unwrap_err();
            assert!(told.starts_with(complaint), "{text}: {told}");
        }
    }

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn key(name: &str, sha256: &str, scopes: &str) -> String {
        format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = {scopes}\n")
    }

    #[test]
    fn keys_stand_in_the_file() {
        let settings = of_file(&key("shop", HASH, "[\"read\", \"holds\"]")).unwrap();
        assert_eq!(settings.keys[0].name, "shop");
        assert_eq!(settings.keys[0].sha256.to_string(), HASH);
        let shown = settings.to_toml().unwrap();
        assert!(shown.contains("ba7816bf...") && !shown.contains(HASH), "{shown}");
    }

    #[test]
    fn a_key_that_is_wrong_is_told_with_its_line() {
        let read = "[\"read\"]";
        let first = key("shop", HASH, read);
        for (text, complaint) in [
            (key("shop", "abc", read), "a.toml, line 3: keys[0].sha256: must be 64 hexadecimal"),
            (
                key("shop", HASH, "[\"write\"]"),
                "a.toml, line 4: keys[0].scopes[0]: unknown variant `write`",
            ),
            (key("shop", HASH, "[]"), "a.toml, line 4: keys[0].scopes: must name one"),
            (key("", HASH, read), "a.toml, line 2: keys[0].name: must have 1 to 64"),
            (
                key("shop", HASH, read) + "color = 1",
                "a.toml, line 5: keys[0].color: unknown field `color`",
            ),
            (
                "[[keys]]\nname = \"x\"".to_owned(),
                "a.toml, line 1: keys[0]: missing field `sha256`",
            ),
            (
                first.clone() + &key("shop", &HASH.replace('b', "c"), read),
                "a.toml, line 6: keys[1].name: is the name",
            ),
            (first + &key("clerk", HASH, read), "a.toml, line 7: keys[1].sha256: is that"),
        ] {
            let told = of_file(&text).unwrap_err();
            assert!(told.starts_with(complaint), "{text}: {told}");
        }
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        for (name, value, complaint) in [
            (
                "STOCKHOLD_SERVER_MAX_CONNECTIONS",
                "many",
                "the variable STOCKHOLD_SERVER_MAX_CONNECTIONS: server.max_connections: invalid type: string \"many\", expected a whole number",
            ),
            (
                "STOCKHOLD_SERVER_INSECURE",
                "perhaps",
                "the variable STOCKHOLD_SERVER_INSECURE: server.insecure: invalid type",
            ),
            ("STOCKHOLD_LISTEN", "here", "the variable STOCKHOLD_LISTEN: server.listen: "),
            (
                "STOCKHOLD_SERVER_LISEN",
                "x",
                "the variable STOCKHOLD_SERVER_LISEN: there is no setting server.lisen; [server] has ",
            ),
        ] {
            let told = of_variable(name, value).unwrap_err();
            assert!(told.starts_with(complaint), "{name}: {told}");
        }
    }

    #[test]
    fn variables_of_others_are_no_matter() {
        for name in ["STOCKHOLD_URL", "STOCKHOLD_KEY", "STOCKHOLD_CONFIG", "SERVER_LISTEN", "HOME"]
        {
            assert_eq!(of_variable(name, "x"), Ok(Settings::default()), "{name}");
        }
    }

    #[test]
    fn a_flag_that_is_wrong_is_named() {
        let told =
            Layers::default().flag("--listen", "server.listen", Some("here")).read().unwrap_err();
        assert!(told.to_string().starts_with("the flag --listen: server.listen: "), "{told}");
    }

    #[test]
    fn every_setting_has_a_variable() {
        let defaults: Table = toml::from_str(DEFAULTS).unwrap();
        for (section, settings) in &defaults {
            for (key, value) in settings.as_table().unwrap() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let settings = of_variable(&variable_of(section, key), &text);
                assert_eq!(settings, Ok(Settings::default()), "{section}.{key}");
            }
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let shown = Settings::default().to_toml().unwrap();
        assert_eq!(of_file(&shown), Ok(Settings::default()), "{shown}");
    }
}
