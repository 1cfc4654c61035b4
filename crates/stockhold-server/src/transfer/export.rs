//! Writes all stock, page by page.

use stockhold::{
    Engine, ItemKey, StockView,
    ledger::{Page, StockQuery},
};
use tracing::warn;

use super::{
    outlet::Outlet,
    rows::{write_header, write_row},
};
use crate::{problem::Problem, wire::Format};

/// Items that are read at once.
const PAGE: usize = 1_000;

/// Stock that is being written.
pub(super) struct Export {
    engine: Engine,
    format: Format,
    outlet: Outlet,
    page: Page<StockView, ItemKey>,
}

impl Export {
    /// Reads the first page, so that a ledger that cannot be read is a problem and no empty file.
    pub(super) async fn begin(
        engine: Engine,
        format: Format,
        mut outlet: Outlet,
    ) -> Result<Self, Problem> {
        let page = engine.items(after(None)).await?;
        write_header(outlet.text(), format);
        Ok(Self { engine, format, outlet, page })
    }

    pub(super) async fn run(mut self) {
        loop {
            self.write();
            if self.outlet.push().await.is_err() {
                return;
            }
            let Some(next) = self.page.next.take() else { break };
            match self.engine.items(after(Some(next))).await {
                Ok(page) => self.page = page,
                Err(error) => {
                    warn!(error = %error.chain(), "an export broke off");
                    return;
                }
            }
        }
        // Who has gone does not want to know.
        let _ = self.outlet.end().await;
    }

    fn write(&mut self) {
        for StockView { item, .. } in &self.page.items {
            write_row(self.outlet.text(), self.format, item);
        }
    }
}

fn after(item: Option<ItemKey>) -> StockQuery {
    StockQuery { after: item, limit: PAGE, ..StockQuery::default() }
}
