//! The rules of stockhold, pure: no clock, no network, no disk.
//!
//! A shop **places** a hold on units of one or more stock items; the units are **held** until the
//! deadline of the hold. The customer pays: the shop **confirms**, and the units are allocated.
//! Or the shop **releases** the hold; or nobody does anything, and it **expires**.
//!
//! ```
//! use std::sync::Arc;
//! use stockhold_core::*;
//!
//! // A book is the set of rows that the rules work on.
//! let mut book = Book::new(Limits::default());
//! let tee = Arc::new(ItemKey::at_default(Sku::new("TEE-RED-M")?));
//! let at = |second: i64| Timestamp::from_millis(second * 1_000);
//!
//! // One unit arrives ...
//! let (on_hand, safety_stock) = (Some(Quantity::ONE), None);
//! let create = Action::SetPolicy { item: tee.clone(), on_hand, safety_stock };
//! book.apply(&Command::new(create), at(0))?;
//!
//! // ... and is held for a customer while she pays.
//! let id = HoldId::from_bytes([1; 16]);
//! let place = |id: HoldId, owner: &str| -> Result<Command, InvalidName> {
//!     let lines = Basket::new([(ItemKey::at_default(Sku::new("TEE-RED-M")?), Quantity::ONE)]);
//!     Ok(Command::new(Action::Place(Place {
//!         id,
//!         owner: Owner::new(owner)?,
//!         ttl: Ttl::from_millis(30_000),
//!         lines: lines.expect("one line"),
//!         replaces: None,
//!         reference: None,
//!     })))
//! };
//! book.apply(&place(id, "cart_981")?, at(1))?;
//!
//! // The next customer is refused, and learns when it is worth to try again.
//! let refused = book.apply(&place(HoldId::from_bytes([2; 16]), "cart_982")?, at(2));
//! let Err(Rejection::InsufficientStock { lines, .. }) = refused else { panic!("not refused") };
//! assert_eq!(lines[0].next_due_at, Some(at(31)));
//!
//! // She pays in time.
//! let (lines, on_expired, reference) = (None, OnExpired::Fail, None);
//! let confirm = Action::Confirm { id, lines, on_expired, reference };
//! let outcome = book.apply(&Command::new(confirm), at(30))?;
//! let Outcome::Settled(settled) = outcome else { panic!("not settled") };
//! assert_eq!(settled.hold.hold.state, HoldState::Confirmed);
//! assert_eq!(book.item(&tee).map(|item| item.allocated), Some(Quantity::ONE));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! | file | what it says |
//! |---|---|
//! | `hold.rs` | what a hold is, and what each step of its life moves |
//! | `command.rs` | what can be asked |
//! | `book.rs` and `book/` | the rules: what is answered, and what changes |
//! | `rejection.rs` | every reason for a no |
//! | `time.rs` | deadlines, and the grace after an outage |
//! | `verify.rs` | the invariants, recomputed from rows by code that shares nothing with the rules |

#![warn(clippy::arithmetic_side_effects)]

mod book;
mod command;
mod hold;
mod id;
mod key;
mod limits;
mod outcome;
mod quantity;
mod rejection;
mod stock;
mod time;
mod traffic;
pub mod verify;

pub use book::{Book, Changes};
pub use command::{Action, Basket, Command, InvalidBasket, LoadMode, OnExpired, Place};
pub use hold::{Hold, HoldState, IllegalStep, Line, Moved, Step, Transition};
pub use id::{
    HoldId, IdempotencyKey, InvalidName, ItemKey, Location, LockName, NameFault, Owner, Reason,
    Reference, Sku,
};
pub use key::{Digest, Done, KeyId, KeyRecord};
pub use limits::{InvalidLimit, Limits};
pub use outcome::{
    HoldView, Loaded, Movement, MovementKind, Outcome, Placed, PolicySet, Settled, StockMoved,
    StockView,
};
pub use quantity::{OutOfRange, Quantity};
pub use rejection::{Rejection, Shortage};
pub use stock::StockItem;
pub use time::{Grace, Liveness, Timestamp, Ttl};
pub use traffic::Traffic;
