//! Pages of lists as they are sent.

use serde::Serialize;
use stockhold::{HoldId, HoldView, ItemKey, Movement, StockView, Told, ledger::Page};
use utoipa::ToSchema;

use super::{Asked, Cursor, HoldBody, ItemBody, MovementBody, write};

/// Some holds, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = HoldPage)]
pub(crate) struct HoldPageBody<'a> {
    items: Vec<HoldBody<'a>>,
    /// Where the list goes on; `null` at its end. A page may have fewer holds than were asked for,
    /// even none, and still go on.
    #[schema(required)]
    next_cursor: Option<Cursor>,
}

/// Some stock items, by SKU and location.
#[derive(Serialize, ToSchema)]
#[schema(as = StockPage)]
pub(crate) struct StockPageBody<'a> {
    items: Vec<ItemBody<'a>>,
    /// Where the list goes on; `null` at its end.
    #[schema(required)]
    next_cursor: Option<Cursor>,
}

/// Some movements, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = MovementPage)]
pub(crate) struct MovementPageBody<'a> {
    items: Vec<MovementBody<'a>>,
    /// After what to ask on, now or later: no movement is ever put behind it. The same as was
    /// asked for if there is nothing more yet.
    #[schema(required, minimum = 0, maximum = 9007199254740991_u64)]
    next_after: Option<i64>,
}

/// Writes a page of holds.
pub(crate) fn hold_page(page: &Page<HoldView, HoldId>, asked: Asked) -> Vec<u8> {
    let items = page.items.iter().map(|view| HoldBody::since(view, asked)).collect();
    let next_cursor = page.next.as_ref().map(Cursor::of);
    write(&HoldPageBody { items, next_cursor }, room(page.items.len(), 640))
}

/// Writes a page of stock items.
pub(crate) fn stock_page(page: &Page<StockView, ItemKey>, asked: Asked) -> Vec<u8> {
    write_stock(page.items.iter().map(|view| ItemBody::since(view, asked)), page.next.as_ref())
}

/// Writes a page of stock items as they may still be.
pub(crate) fn stock_page_of_copies(page: &Page<(Told, StockView), ItemKey>) -> Vec<u8> {
    let items = page.items.iter().map(|(told, view)| ItemBody::told(view, *told));
    write_stock(items, page.next.as_ref())
}

fn write_stock<'a>(items: impl Iterator<Item = ItemBody<'a>>, next: Option<&ItemKey>) -> Vec<u8> {
    let items: Vec<_> = items.collect();
    let room = room(items.len(), 384);
    write(&StockPageBody { items, next_cursor: next.map(Cursor::of) }, room)
}

/// Writes a page of movements.
pub(crate) fn movement_page(page: &Page<Movement, i64>) -> Vec<u8> {
    let items = page.items.iter().map(MovementBody::of).collect();
    write(&MovementPageBody { items, next_after: page.next }, room(page.items.len(), 256))
}

const fn room(items: usize, each: usize) -> usize {
    items.saturating_mul(each).saturating_add(64)
}
