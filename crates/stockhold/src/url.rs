//! The URL of a database: its pieces, and what of it may be shown.
//!
//! `scheme://user:password@host:port,host2:port2/rest?name=value&...`. What is said of a part that is
//! wrong never holds that part: it may be the password.

use percent_encoding::percent_decode_str;

use crate::{Failure, FailureKind};

/// What the URLs of one sort of database look like.
pub(crate) struct Dialect {
    pub(crate) schemes: &'static [&'static str],
    /// Said to whoever wrote something else.
    pub(crate) example: &'static str,
    /// A host with a port, as an example.
    pub(crate) host: &'static str,
    /// All parameters there are, sorted.
    pub(crate) known: &'static [&'static str],
}

/// The pieces of a URL, as they were written.
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    /// With its @, or empty.
    pub(crate) login: &'a str,
    /// Hosts, and what stands behind the slash.
    pub(crate) place: &'a str,
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(text: &'a str, dialect: &Dialect) -> Result<Self, Failure> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !dialect.schemes.contains(&scheme) {
            return Err(wrong(dialect.example));
        }
        let (login, rest) = rest.split_at(rest.find('@').map_or(0, |at| at.saturating_add(1)));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if place.contains('@') {
            return Err(wrong("an @ in a password is written %40"));
        }
        let parameters = query.split('&').filter(|one| !one.is_empty());
        let parameters = parameters.map(|one| {
            one.split_once('=').ok_or_else(|| wrong("each parameter behind the ? is name=value"))
        });
        let parameters = parameters.collect::<Result<_, _>>()?;
        let parts = Self { scheme, login, place, parameters };
        parts.check(dialect)?;
        Ok(parts)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(other, _)| *other == name)
    }

    /// The hosts, as they were written.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &'a str> {
        self.place.split('/').next().unwrap_or_default().split(',')
    }

    /// What is wrong is named, unless it may be what was left of a password.
    fn check(&self, dialect: &Dialect) -> Result<(), Failure> {
        let hides = |part: &&str| part.contains('@');
        let mut parts = self.parameters.iter().flat_map(|(name, value)| [*name, *value]);
        let may_tell = !self.has("password") && parts.find(hides).is_none();
        let unknown = self.parameters.iter().find(|(name, _)| !dialect.known.contains(name));
        if let Some((name, _)) = unknown {
            let which = if may_tell { format!("{name:?}") } else { "one of them".to_owned() };
            let known = dialect.known.join(", ");
            return Err(wrong(format!(
                "parameters behind the ?: {which} is not known; known are {known}"
            )));
        }
        if self.hosts().filter_map(port).any(|port| port.parse::<u16>().is_err()) {
            return Err(wrong(format!(
                "a port is no number: each host is NAME or NAME:PORT, such as {}; and a password ends \
                 with an @",
                dialect.host
            )));
        }
        Ok(())
    }

    /// Put together again; a parameter for which there is no text is left out.
    pub(crate) fn address(
        &self,
        login: &str,
        parameter: impl Fn(&str, &str) -> Option<String>,
    ) -> String {
        let parameters = self.parameters.iter();
        let parameters = parameters.filter_map(|(name, value)| parameter(name, value));
        let parameters = parameters.collect::<Vec<_>>();
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{}://{login}{}{mark}{}", self.scheme, self.place, parameters.join("&"))
    }

    /// With stars for a password.
    pub(crate) fn shown(&self) -> String {
        let login = match self.login.split_once(':') {
            Some((user, _)) => format!("{user}:***@"),
            None => self.login.to_owned(),
        };
        self.address(&login, |name, value| {
            let value = if name == "password" { "***" } else { value };
            Some(format!("{name}={value}"))
        })
    }

    /// Without a password.
    #[cfg(feature = "postgres")]
    pub(crate) fn label(&self) -> String {
        let login = match self.login.split_once(':') {
            Some(("", _)) => String::new(),
            Some((user, _)) => format!("{user}@"),
            None => self.login.to_owned(),
        };
        self.address(&login, |name, value| (name != "password").then(|| format!("{name}={value}")))
    }
}

/// What stands behind the colon; an address of IPv6 has colons of its own, in brackets.
pub(crate) fn port(host: &str) -> Option<&str> {
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    behind.split_once(':').map(|(_, port)| port)
}

/// The first line of the file that a parameter names.
pub(crate) fn read_password(file: &str) -> Result<String, Failure> {
    let file = decoded(file);
    let text = std::fs::read_to_string(&file)
        .map_err(|e| wrong(format!("passwordfile {file} cannot be read")).caused_by(e))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(wrong(format!("passwordfile {file} has no password in its first line"))),
    }
}

pub(crate) fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

pub(crate) fn wrong(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, message)
}
