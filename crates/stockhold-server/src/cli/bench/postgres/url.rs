//! Where a Postgres server is, and its databases.

use std::{fmt, str::FromStr};

use tokio_postgres::Config;

/// `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE[?...]`. It may have a password, so nobody
/// prints it.
#[derive(Clone)]
pub(in super::super) struct PostgresUrl {
    /// All in front of the name of the database.
    server: String,
    database: String,
    /// All behind it.
    parameters: String,
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresUrl").field("database", &self.database).finish_non_exhaustive()
    }
}

impl FromStr for PostgresUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a Postgres server is named as postgres://USER@HOST/DATABASE".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "postgres" | "postgresql") || Config::from_str(text).is_err() {
            return Err(wrong());
        }
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let others = parameters.split('&').filter(|p| !p.is_empty() && !p.starts_with("dbname="));
        let others = others.collect::<Vec<_>>().join("&");
        let parameters = if others.is_empty() { others } else { format!("?{others}") };
        let server = format!("{scheme}://{authority}/");
        Ok(Self { server, database: database.to_owned(), parameters })
    }
}

impl PostgresUrl {
    /// As it was given.
    pub(super) fn text(&self) -> String {
        self.of_database(&self.database)
    }

    /// Another database of the same server.
    pub(super) fn of_database(&self, name: &str) -> String {
        let Self { server, parameters, .. } = self;
        format!("{server}{name}{parameters}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_is_named_by_the_same_url() {
        for (text, other) in [
            ("postgres://shop:secret@db.example/shop", "postgres://shop:secret@db.example/b"),
            ("postgresql://db.example", "postgresql://db.example/b"),
            (
                "postgres://postgres@/shop?host=/tmp/a&dbname=x&port=1",
                "postgres://postgres@/b?host=/tmp/a&port=1",
            ),
        ] {
            let url: PostgresUrl = text.parse().unwrap();
            assert_eq!(url.of_database("b"), other);
        }
        let url: PostgresUrl = "postgres://u@h:5/shop?sslmode=disable".parse().unwrap();
        assert_eq!(url.text(), "postgres://u@h:5/shop?sslmode=disable");
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        for text in ["", "sqlite:shop.db", "mysql://h/d", "postgres:", "postgres://h:port/d"] {
            assert!(text.parse::<PostgresUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url: PostgresUrl = "postgres://shop:secret@db.example/shop".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }
}
