//! Where settings come from, and who said what: the defaults, a file, the environment, flags.
//!
//! All of them are laid over each other as tables, and read as one. What is wrong is told with
//! the place that said it. The defaults say which settings there are.

mod merged;
mod origin;

use std::{collections::BTreeMap, fmt, path::PathBuf};

#[cfg(test)]
pub(super) use self::merged::variable_of;
pub use self::origin::SettingsError;
use self::{merged::Merged, origin::Origin};
use super::Settings;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use toml::Table;

    use super::*;
    use crate::settings::{DEFAULTS, LogFormat};

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
            ("[sever]", "a.toml, line 1: there is no section sever; there are cache, "),
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
                "a.toml, line 2: ledger.url: a ledger is sqlite:PATH, postgres://... or memory:",
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
