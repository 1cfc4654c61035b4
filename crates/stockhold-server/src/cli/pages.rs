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
use crate::client::Reply;

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
            let (reply, page) = self.page(server, self.part.limit()).await?;
            self.print(&reply, &page)?;
            let Some(next) = self.next_after(&page) else { return Ok(()) };
            self.from = Some(next);
            if !self.part.all {
                return if self.json { Ok(()) } else { self.say_if_there_is_more(server).await };
            }
        }
    }

    async fn page(&self, server: &mut Server, limit: u16) -> Result<(Reply, Page<T>), Fault> {
        let path = self.path.clone().query(self.goes_on, self.from.as_ref());
        let reply = server.ask(&Ask::get(path.query("limit", Some(limit)))).await?;
        let page = parsed(&reply)?;
        Ok((reply, page))
    }

    fn print(&self, reply: &Reply, page: &Page<T>) -> Result<(), Fault> {
        if self.json {
            say(&String::from_utf8_lossy(&reply.body))
        } else if !page.items.is_empty() || self.from.is_none() {
            say(&(self.table)(&page.items).to_string())
        } else {
            Ok(())
        }
    }

    /// Movements never come to an end: after the last one is where the next will be.
    fn next_after(&self, page: &Page<T>) -> Option<String> {
        let next = page.next_cursor.as_ref().map(ToString::to_string);
        next.filter(|next| Some(next) != self.from.as_ref())
    }

    /// Where a list goes on is named also if nothing is there; so one row is asked for.
    async fn say_if_there_is_more(&self, server: &mut Server) -> Result<(), Fault> {
        let (_, ahead) = self.page(server, 1).await?;
        if ahead.items.is_empty() && self.next_after(&ahead).is_none() {
            return Ok(());
        }
        let from = self.from.as_deref().unwrap_or_default();
        say(&format!("there may be more: --{} {from}, or --all", self.goes_on))
    }
}
