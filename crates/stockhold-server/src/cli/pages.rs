//! Lists: one page, or all of them.

use comfy_table::Table;
use serde::de::DeserializeOwned;

use super::{
    Fault,
    answer::Page,
    path::Path,
    remote::{Ask, Remote, Server, parsed},
    say,
};

/// Which part of a list.
#[derive(Debug, clap::Args)]
pub(super) struct Part {
    /// The most rows of a page: from 1 to 1,000 [default: 100; with --all 1,000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: Option<u16>,

    /// All pages, one after the other; with --json one page a line
    #[arg(long)]
    all: bool,
}

impl Part {
    fn limit(&self) -> u16 {
        self.limit.unwrap_or(if self.all { 1_000 } else { 100 })
    }
}

/// A list: where it is, where it begins, and what its rows look like.
pub(super) struct List<'a, T> {
    pub(super) path: Path,
    /// What the query and the option call the place where it goes on: `cursor`, `after`.
    pub(super) goes_on: &'static str,
    pub(super) from: Option<String>,
    pub(super) part: &'a Part,
    pub(super) json: bool,
    pub(super) table: fn(&[T]) -> Table,
}

impl<T: DeserializeOwned> List<'_, T> {
    /// Prints it.
    pub(super) fn show(self, remote: &Remote) -> Result<(), Fault> {
        remote.talk(async |server| self.follow(server).await)
    }

    async fn follow(mut self, server: &mut Server) -> Result<(), Fault> {
        loop {
            let page = self.page(server).await?;
            let next = page.next_cursor.map(|cursor| cursor.to_string());
            // Movements never come to an end: after the last one is where the next will be.
            if next.is_none() || next == self.from {
                return Ok(());
            }
            if !self.part.all {
                return self.say_there_is_more(next);
            }
            self.from = next;
        }
    }

    async fn page(&self, server: &mut Server) -> Result<Page<T>, Fault> {
        let path = self.path.clone().query(self.goes_on, self.from.as_ref());
        let reply = server.ask(&Ask::get(path.query("limit", Some(self.part.limit())))).await?;
        let page: Page<T> = parsed(&reply)?;
        if self.json {
            say(&String::from_utf8_lossy(&reply.body))?;
        } else if !page.items.is_empty() || self.from.is_none() {
            say(&(self.table)(&page.items).to_string())?;
        }
        Ok(page)
    }

    fn say_there_is_more(&self, next: Option<String>) -> Result<(), Fault> {
        let Some(next) = next.filter(|_| !self.json) else { return Ok(()) };
        say(&format!("there may be more: --{} {next}, or --all", self.goes_on))
    }
}
