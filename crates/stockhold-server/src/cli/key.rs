//! `stockhold key`: what callers show to be let in.

use clap::Subcommand;

use super::{Exit, Fault, say};
use crate::access::{Scope, Token};

/// Makes keys, which callers of the service show.
#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
}

/// Makes a key, and prints it: once, because the server keeps only its hash.
#[derive(Debug, clap::Args)]
struct New {
    /// Who gets it, for people and for the log.
    #[arg(long, value_parser = name)]
    name: String,

    /// What it may do: read, holds, stock, locks, admin (all of them).
    #[arg(long, value_delimiter = ',', required = true, value_name = "SCOPE,...")]
    scopes: Vec<Scope>,
}

fn name(text: &str) -> Result<String, String> {
    let is_sound = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_sound
        .then(|| text.to_owned())
        .ok_or_else(|| "1 to 64 visible characters of ASCII".to_owned())
}

impl Key {
    pub(super) fn run(self) -> Result<Exit, Fault> {
        let Command::New(new) = self.command;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|e| Fault::error(format!("the system has no randomness: {e}")))?;
        say(&new.text(&Token::from_bytes(bytes)))?;
        Ok(Exit::Ok)
    }
}

impl New {
    fn text(&self, token: &Token) -> String {
        let name = toml::Value::from(self.name.as_str());
        let scopes: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        let scopes = toml::Value::from(scopes);
        let (token, hash) = (token.as_str(), token.hash());
        format!(
            "The key, which is shown only this once:\n\n\
             {token}\n\n\
             Callers send it as `Authorization: Bearer KEY`. The lines for the settings file of the \
             server, which is to be started anew:\n\n\
             [[keys]]\nname = {name}\nsha256 = \"{hash}\"\nscopes = {scopes}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layers;

    #[test]
    fn the_lines_for_the_settings_file_can_be_read() {
        let new = New { name: "a\"\\b".to_owned(), scopes: vec![Scope::Read, Scope::Holds] };
        let token = Token::from_bytes([9; 32]);
        let text = new.text(&token);
        let (_, lines) = text.split_once("\n[[keys]]").unwrap();
        let settings = Layers::default().file("a.toml", format!("[[keys]]{lines}")).read().unwrap();
        assert_eq!(settings.keys[0].name, new.name);
        assert_eq!(settings.keys[0].sha256, token.hash());
        assert_eq!(settings.keys[0].scopes.iter().collect::<Vec<_>>(), new.scopes);
        assert!(!lines.contains(token.as_str()));
    }
}
