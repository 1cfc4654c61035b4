//! Which path and method leads where, what it takes to be let in, and what is answered there.

mod route;

use std::sync::Arc;

use axum::{Extension, Router, handler::Handler};
use stockhold::Engine;

pub(crate) use self::route::{KEY, Route, header};
use self::route::{LIMIT, REPLAYED};
use crate::{
    access::{Need, Scope},
    batch, docs, health, holds, lists, locks,
    metrics::{self, Metrics},
    openapi,
    problem::{self, Kind, Problem},
    stock, transfer,
    wire::{
        AcquireBody, AdjustmentBody, After, BatchAnswerBody, BatchBody, ConfirmBody, Cursor,
        ExportFormat, ExtendBody, HealthBody, HoldBody, HoldPageBody, ImportMode, ItemBody,
        LeaseBody, Limit, LocationWord, LockBody, LockPageBody, LockPrefix, MovedBody,
        MovementPageBody, OpenLinesBody, OwnerWord, PlaceBody, PolicyBody, Prefix, ReleaseBody,
        ReleaseLockBody, ReleasedBody, RenewBody, RenewedBody, RevokeBody, RowBody, SkuWord, State,
        StockPageBody, StockRowBody,
    },
};

/// Everything that can be asked.
pub(crate) fn router(engine: Engine, metrics: Arc<Metrics>) -> Router {
    let add = |router: Router<Engine>, route: Route| router.route(route.path, route.handler);
    let metrics = Extension(metrics);
    all()
        .into_iter()
        .map(|route| if route.path == METRICS { route.layer(metrics.clone()) } else { route })
        .fold(Router::new(), add)
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(engine)
}

/// Every route, in the order of the document.
pub(crate) fn all() -> Vec<Route> {
    [of_holds(), of_stock(), of_batch(), of_lists(), of_movements(), of_locks(), of_operation()]
        .into_iter()
        .flatten()
        .collect()
}

/// Why a confirm is refused: the row of the table of states and verbs.
const NOT_TO_CONFIRM: [Kind; 4] =
    [Kind::AlreadyConfirmed, Kind::AlreadyReleased, Kind::Revoked, Kind::AlreadyCancelled];

fn of_holds() -> Vec<Route> {
    vec![
        Route::post("/v1/holds", Need::Scope(Scope::Holds), holds::place)
            .does("place", "Holds units until a deadline.")
            .mind("All of the lines or none of them. The key may be used again after a refusal.")
            .keyed()
            .takes::<PlaceBody>()
            .makes::<HoldBody<'_>>("The hold.", &[("Location", "Where the hold is.")])
            .refuses(&[Kind::TooManyLines, Kind::QuantityTooLarge, Kind::OutOfRange])
            .refuses(&[Kind::UnknownSku, Kind::InsufficientStock, Kind::HoldEnded])
            .refuses(&[Kind::NotFound])
            .refuses(&NOT_TO_CONFIRM),
        Route::get("/v1/holds", Need::Scope(Scope::Read), lists::holds)
            .does("listHolds", "Holds, newest first.")
            .mind("By SKU only together with state=active: no other list is kept by SKU.")
            .query::<OwnerWord>("owner", "Only those of this owner.")
            .query::<State>("state", "Only those in this state as it is now.")
            .query::<SkuWord>("sku", "Only those with a line of this SKU.")
            .pages()
            .answers::<HoldPageBody<'_>>(200, "Some of the holds, and where the list goes on."),
        Route::get("/v1/holds/{id}", Need::Scope(Scope::Read), holds::read)
            .does("getHold", "A hold as it is now.")
            .answers::<HoldBody<'_>>(200, "The hold.")
            .refuses(&[Kind::NotFound]),
        verb("/v1/holds/{id}/confirm", Need::Scope(Scope::Holds), holds::confirm)
            .does("confirm", "The customer has paid: held units become allocated.")
            .may_take::<ConfirmBody>()
            .refuses(&NOT_TO_CONFIRM)
            .refuses(&[Kind::HoldExpired, Kind::NotInHold, Kind::MoreThanHeld, Kind::OutOfRange]),
        verb("/v1/holds/{id}/release", Need::Scope(Scope::Holds), holds::release)
            .does("release", "Gives all held units back.")
            .may_take::<ReleaseBody>()
            .refuses(&[Kind::AlreadyConfirmed]),
        verb("/v1/holds/{id}/extend", Need::Scope(Scope::Holds), holds::extend)
            .does("extend", "Moves the deadline to a later time.")
            .takes::<ExtendBody>()
            .refuses(&[Kind::HoldExpired, Kind::MaxLifetime])
            .refuses(&[Kind::AlreadyConfirmed, Kind::AlreadyReleased, Kind::Revoked]),
        verb("/v1/holds/{id}/ship", Need::Scope(Scope::Stock), holds::ship)
            .does("ship", "Confirmed units leave the house.")
            .may_take::<OpenLinesBody>()
            .refuses(&OF_OPEN_LINES)
            .refuses(&[Kind::AlreadyCancelled]),
        verb("/v1/holds/{id}/cancel", Need::Scope(Scope::Stock), holds::cancel)
            .does("cancel", "Confirmed units go back to sale.")
            .may_take::<OpenLinesBody>()
            .refuses(&OF_OPEN_LINES)
            .refuses(&[Kind::AlreadyShipped]),
        verb("/v1/holds/{id}/revoke", Need::Scope(Scope::Admin), holds::revoke)
            .does("revoke", "Takes all held units away, whatever the customer wants.")
            .takes::<RevokeBody>()
            .refuses(&[Kind::AlreadyConfirmed]),
    ]
}

/// Why units are neither shipped nor cancelled.
const OF_OPEN_LINES: [Kind; 6] = [
    Kind::IdempotencyKeyRequired,
    Kind::NotConfirmed,
    Kind::NothingOpen,
    Kind::NotInHold,
    Kind::MoreThanOpen,
    Kind::OutOfRange,
];

/// A verb on a hold, which answers the hold.
fn verb<T, H>(path: &'static str, need: Need, handler: H) -> Route
where
    T: 'static,
    H: Handler<T, Engine>,
    H::Future: Unpin,
{
    Route::post(path, need, handler)
        .keyed()
        .answers_with::<HoldBody<'_>>(200, "The hold as it now is.", &[REPLAYED])
        .refuses(&[Kind::NotFound])
}

fn of_stock() -> Vec<Route> {
    vec![
        Route::get("/v1/stock", Need::Scope(Scope::Read), lists::stock)
            .does("listStock", "Stock items by SKU and location.")
            .query::<Prefix>("prefix", "Only those whose SKU begins with this.")
            .pages()
            .answers::<StockPageBody<'_>>(200, "Some of the items, and where the list goes on."),
        Route::get("/v1/stock/{sku}", Need::Scope(Scope::Read), stock::read)
            .does("getStock", "A stock item as it is now.")
            .query::<LocationWord>("location", LOCATION)
            .reads()
            .answers::<ItemBody<'_>>(200, "The item.")
            .refuses(&[Kind::UnknownSku]),
        Route::put("/v1/stock/{sku}", Need::Scope(Scope::Stock), stock::set_policy)
            .does("setPolicy", "Creates an item, or sets how many of it are kept back from sale.")
            .query::<LocationWord>("location", LOCATION)
            .takes::<PolicyBody>()
            .answers::<ItemBody<'_>>(201, "The item was created.")
            .answers::<ItemBody<'_>>(200, "The item was there.")
            .refuses(&[Kind::AlreadyExists, Kind::OutOfRange]),
        Route::post("/v1/stock/{sku}/adjustments", Need::Scope(Scope::Stock), stock::adjust)
            .does("adjust", "Changes the units on hand.")
            .mind("One of delta, count and receive. Delta and receive need an idempotency key.")
            .query::<LocationWord>("location", LOCATION)
            .keyed()
            .takes::<AdjustmentBody>()
            .makes::<MovedBody<'_>>("What moved, and the item as it now is.", &[])
            .refuses(&[Kind::IdempotencyKeyRequired, Kind::OutOfRange, Kind::UnknownSku])
            .refuses(&[Kind::WouldGoBelow, Kind::OnHandDiffers]),
    ]
}

const LOCATION: &str = "Where the item lies; left out: `default`.";

fn of_batch() -> Vec<Route> {
    vec![
        Route::post("/v1/batch", Need::Key, batch::batch)
            .does("batch", "Does many verbs in order, each by itself.")
            .mind("An item has the op, the fields of its verb's body, and id, or sku and location. \
                   Each is answered as the verb alone would be; one that is refused spoils no other.")
            .takes::<BatchBody>()
            .answers::<BatchAnswerBody>(200, "An answer for each item."),
    ]
}

fn of_lists() -> Vec<Route> {
    vec![
        Route::post("/v1/stock-imports", Need::Scope(Scope::Stock), transfer::import)
            .does("importStock", "Loads a list of stock, 500 rows a transaction.")
            .mind(
                "NDJSON, or CSV with the columns sku, location, on_hand and safety_stock. \
                   Streamed in both directions: read the answer while you send. It has a line \
                   {line, error: {code, detail, field}} for each row that was not loaded, and at \
                   its end {created, counted, unchanged, bad, lines}. Without that end, not all \
                   was loaded: send the list again, what is there already is not changed.",
            )
            .query::<ImportMode>("mode", "Left out: create.")
            .takes_list::<RowBody>()
            .says(200, "application/x-ndjson", "What is wrong, row by row, and a sum."),
        Route::get("/v1/stock-exports", Need::Scope(Scope::Read), transfer::export)
            .does("exportStock", "All stock, streamed, so that it can be imported again.")
            .mind(
                "An item with less than none on hand, of which more was shipped than a count had \
                   found, is exported as it is. An import names it as a bad row: count it first.",
            )
            .query::<ExportFormat>("format", "Left out: ndjson.")
            .says_rows::<StockRowBody<'_>>(200, "A row for each item."),
    ]
}

fn of_movements() -> Vec<Route> {
    vec![
        Route::get("/v1/movements", Need::Scope(Scope::Read), lists::movements)
            .does("listMovements", "The history of stock, oldest first.")
            .mind("To follow it, ask again after the next_after of the page before.")
            .query::<SkuWord>("sku", "Only those of this SKU.")
            .query::<After>("after", "Only those with a higher number; left out: 0.")
            .query::<Limit>("limit", LIMIT)
            .reads()
            .answers::<MovementPageBody<'_>>(200, "Some of the movements, and where to go on."),
    ]
}

fn of_locks() -> Vec<Route> {
    vec![
        Route::post("/v1/locks/{name}", Need::Scope(Scope::Locks), locks::acquire)
            .does("acquireLock", "Takes a lock, for a time.")
            .mind(
                "If the answer is lost, ask again with the same token: the same lease is granted. A lease can \
                 end while its holder does not notice; whoever was granted the lock later has the higher fence, \
                 so what the work changes should refuse a lower one than it has seen.",
            )
            .of_a_lock()
            .takes::<AcquireBody>()
            .answers::<LeaseBody<'_>>(200, "The lease.")
            .refuses(&[Kind::LockBusy]),
        Route::post("/v1/locks/{name}/renew", Need::Scope(Scope::Locks), locks::renew)
            .does("renewLock", "Lets a lease live on for its whole time from now.")
            .of_a_lock()
            .takes::<RenewBody>()
            .answers::<RenewedBody<'_>>(200, "It does.")
            .refuses(&[Kind::LeaseLost]),
        Route::post("/v1/locks/{name}/release", Need::Scope(Scope::Locks), locks::release)
            .does("releaseLock", "Gives a lock back.")
            .of_a_lock()
            .takes::<ReleaseLockBody>()
            .answers::<ReleasedBody<'_>>(200, "It was the caller's until now.")
            .refuses(&[Kind::LeaseLost]),
        Route::get("/v1/locks/{name}", Need::Scope(Scope::Read), locks::read)
            .does("getLock", "Since when somebody has a lock, and for how long.")
            .of_a_lock()
            .answers::<LockBody<'_>>(200, "Somebody has it.")
            .refuses(&[Kind::LockNotHeld]),
        Route::get("/v1/locks", Need::Scope(Scope::Read), locks::list)
            .does("listLocks", "The locks that somebody has, by name.")
            .query::<LockPrefix>("prefix", "Only those whose name begins with this.")
            .query::<Limit>("limit", LIMIT)
            .query::<Cursor>("cursor", "The next_cursor of the page before.")
            .answers::<LockPageBody<'_>>(200, "Some of the locks, and where the list goes on."),
    ]
}

const METRICS: &str = "/metrics";

fn of_operation() -> Vec<Route> {
    vec![
        Route::get("/livez", Need::ReadFromElsewhere, health::live)
            .does("live", "Whether the process lives.")
            .answers::<HealthBody<'_>>(200, "It does."),
        Route::get("/readyz", Need::ReadFromElsewhere, health::ready)
            .does("ready", "Whether requests can be served, and on what that hangs.")
            .answers::<HealthBody<'_>>(200, "They can.")
            .refuses(&[Kind::Unavailable]),
        Route::get(METRICS, Need::ReadFromElsewhere, metrics::page)
            .does("metrics", "What the service counts, for Prometheus.")
            .says(200, "application/openmetrics-text", "The numbers."),
        Route::get("/problems/{name}", Need::ReadFromElsewhere, problem::page)
            .does("problem", "What a problem means, and its cure.")
            .named("The last part of the problem's type.")
            .says(200, "text/plain", "The page."),
        Route::get("/openapi.json", Need::ReadFromElsewhere, openapi::serve)
            .does("openapi", "This document.")
            .answers::<openapi::Document>(200, "The document."),
        Route::get("/docs", Need::ReadFromElsewhere, docs::page)
            .does("docs", "This document, for people.")
            .says(200, "text/html", "The page."),
    ]
}

async fn no_route() -> Problem {
    Problem::new(Kind::NoRoute, "there is nothing at this path")
}

/// The header `Allow` is added by the router.
async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "the path has no such method; the header Allow names them")
}
