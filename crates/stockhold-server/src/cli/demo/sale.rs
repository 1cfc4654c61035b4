//! The sale: fills the shelves, lets the shoppers in, and waits until the last hold is over.

use std::{io, sync::Arc, time::Duration};

use hyper::Method;
use serde::{Deserialize, Serialize};
use stockhold::{Engine, clock::Clock, verify::Report};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use super::{
    plan::{Item, Plan, TTL},
    progress::Progress,
    shopper::{Lines, Shop, words},
    tally::{Board, Tally},
};
use crate::{cli::Fault, client::Connection, serve};

/// No request waits for longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long after its deadline a hold may still be there: an outage of the ledger, for example of
/// a machine that was asleep, makes up to 10 s (R17).
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks at the shelves.
const LOOK: Duration = Duration::from_millis(50);

/// What is needed for a sale.
#[derive(Debug)]
pub(super) struct Sale {
    pub(super) plan: Plan,
    pub(super) engine: Engine,
    pub(super) listener: TcpListener,
    /// At least 2: one to get in, and one to pay.
    pub(super) connections: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) quiet: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the shoppers saw.
    pub(super) tally: Tally,
    /// What the ledger says of each item.
    pub(super) stock: Vec<Stock>,
    /// What the verifier says.
    pub(super) verified: Report,
    /// From the first shopper to the last answer.
    pub(super) open_for: Duration,
}

/// A stock item, as the server shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Stock {
    pub(super) on_hand: i64,
    pub(super) held: i64,
    pub(super) allocated: i64,
    pub(super) available: i64,
}

impl Sale {
    /// From the first delivery to the verifier's word; the engine is closed afterwards.
    pub(super) async fn hold(self) -> Result<Outcome, Fault> {
        let Self { plan, engine, listener, connections, clock, quiet } = self;
        let address = listener.local_addr().map_err(|e| broken(&e))?.to_string();
        let (close, closed) = oneshot::channel::<()>();
        let until_closed = async move { drop(closed.await) };
        let server = tokio::spawn(serve::run(listener, engine.clone(), until_closed));
        let market = Market { plan, address, connections, clock, quiet };
        let sold = market.hold().await;
        drop(close);
        stopped(server.await)?;
        let (tally, stock, open_for) = sold?;
        let verified = engine.verify().await?;
        engine.close().await?;
        Ok(Outcome { tally, stock, verified, open_for })
    }
}

fn broken(error: &io::Error) -> Fault {
    Fault::error(format!("the server of the demo: {error}"))
}

fn stopped(result: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), Fault> {
    result.map_err(io::Error::other).and_then(|served| served).map_err(|e| broken(&e))
}

/// A sale as seen from outside: everything goes over HTTP.
struct Market {
    plan: Plan,
    address: String,
    connections: usize,
    clock: Arc<dyn Clock>,
    quiet: bool,
}

impl Market {
    async fn hold(&self) -> Result<(Tally, Vec<Stock>, Duration), Fault> {
        let mut keeper = self.connect().await?;
        let items = self.plan.items();
        fill_shelves(&mut keeper, &items).await?;
        let shop = Arc::new(self.shop(items).await?);
        let progress = Progress::start(&self.plan, &shop, self.quiet);
        let opened = self.clock.boot();
        self.let_in(&shop).await?;
        let open_for = self.clock.boot().saturating_sub(opened);
        progress.waits_for_the_dead();
        let stock = self.when_all_is_over(&mut keeper, &shop.items).await?;
        progress.finish();
        Ok((shop.board.with(|tally| tally.clone()), stock, open_for))
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let connected = Connection::connect(&self.address, DEADLINE, Arc::clone(&self.clock));
        connected.await.map_err(|e| Fault::error(format!("{}: {e}", self.address)))
    }

    async fn shop(&self, items: Vec<Item>) -> Result<Shop, Fault> {
        let at_checkout = (self.connections / 4).max(1);
        let checkout = self.lines(at_checkout).await?;
        let entrance = self.lines(self.connections - at_checkout).await?;
        let (board, clock) = (Board::new(items.len()), Arc::clone(&self.clock));
        Ok(Shop { items, entrance, checkout, board, clock })
    }

    async fn lines(&self, count: usize) -> Result<Lines, Fault> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(Lines::new(connections))
    }

    /// Lets every shopper in when it is their time, and waits until the last one has left.
    async fn let_in(&self, shop: &Arc<Shop>) -> Result<(), Fault> {
        let opened = self.clock.boot();
        let mut inside = JoinSet::new();
        for number in 0..self.plan.shoppers {
            let shopper = self.plan.shopper(number);
            let since = self.clock.boot().saturating_sub(opened);
            let early = shopper.arrives.saturating_sub(since);
            if early >= Duration::from_millis(1) {
                self.clock.sleep(early).await;
            }
            inside.spawn(Arc::clone(shop).visit(shopper));
        }
        while let Some(left) = inside.join_next().await {
            left.map_err(|e| Fault::error(format!("a shopper fell over: {e}")))?;
        }
        Ok(())
    }

    /// Looks at the shelves until no unit is held, or until none may be held any longer.
    async fn when_all_is_over(
        &self,
        keeper: &mut Connection,
        items: &[Item],
    ) -> Result<Vec<Stock>, Fault> {
        let latest = self.clock.boot().saturating_add(TTL).saturating_add(GRACE);
        loop {
            let stock = read_shelves(keeper, items).await?;
            let over = stock.iter().all(|item| item.held == 0);
            if over || self.clock.boot() > latest {
                return Ok(stock);
            }
            self.clock.sleep(LOOK).await;
        }
    }
}

async fn fill_shelves(keeper: &mut Connection, items: &[Item]) -> Result<(), Fault> {
    #[derive(Serialize)]
    struct Policy {
        on_hand: i64,
    }
    for Item { sku, units } in items {
        let (path, policy) = (format!("/v1/stock/{sku}"), Policy { on_hand: *units });
        let reply = keeper.send_json(Method::PUT, &path, &policy, None).await;
        let reply = reply.map_err(|e| Fault::error(format!("PUT {path}: {e}")))?;
        if !reply.is_success() {
            return Err(Fault::error(format!("PUT {path}: {}", words(&reply))));
        }
    }
    Ok(())
}

async fn read_shelves(keeper: &mut Connection, items: &[Item]) -> Result<Vec<Stock>, Fault> {
    let mut stock = Vec::with_capacity(items.len());
    for Item { sku, .. } in items {
        let path = format!("/v1/stock/{sku}");
        let reply = keeper.get(&path).await;
        let reply = reply.map_err(|e| Fault::error(format!("GET {path}: {e}")))?;
        let item =
            reply.json().map_err(|_| Fault::error(format!("GET {path}: {}", words(&reply))))?;
        stock.push(item);
    }
    Ok(stock)
}
