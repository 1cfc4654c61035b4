//! A shop that embeds stockhold: hold what the customer wants, take the money, confirm.
//!
//! Run it with `cargo run -p stockhold --example checkout`.
#![expect(clippy::print_stdout, reason = "an example tells what happens")]

use std::{error::Error as StdError, sync::Arc};

use stockhold::{
    Basket, ConfirmRequest, Engine, Error, IdempotencyKey, InvalidName, ItemKey, OnExpired, Owner,
    PlaceRequest, Quantity, Reason, Reference, Rejection, Sku,
    ledger::sqlite::{SqliteLedger, SqliteOptions},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    // The ledger is a file; a real shop names one that stays.
    let folder = tempfile::tempdir()?;
    let ledger = SqliteLedger::open(folder.path().join("shop.db"), SqliteOptions::default())?;
    let engine = Engine::builder(Arc::new(ledger)).start()?;

    // Two red tees arrive.
    let tee = ItemKey::at_default(Sku::new("TEE-RED-M")?);
    engine.set_policy(&tee, Some(Quantity::new(2)?), None).await?;

    for (cart, money) in [("ann", Money::Comes), ("ben", Money::Fails), ("cem", Money::Comes)] {
        check_out(&engine, &tee, cart, money).await?;
    }
    check_out(&engine, &tee, "dora", Money::Comes).await?; // she is too late

    let stock = engine.stock(&tee).await?.item;
    println!("in the end: {} on hand, {} allocated", stock.on_hand, stock.allocated);
    assert!(engine.verify().await?.is_clean());
    engine.close().await?;
    Ok(())
}

/// What the payment provider says.
enum Money {
    Comes,
    Fails,
}

async fn check_out(engine: &Engine, tee: &ItemKey, cart: &str, money: Money) -> Result<(), Error> {
    // From here on one tee is theirs, for 30 s unless said otherwise.
    let held = match engine.place(one_tee(tee, cart).expect("good names")).await {
        Ok(placed) => placed.hold,
        Err(Error::Rejected { rejection, .. }) => {
            println!("{cart}: {}", in_words(&rejection));
            return Ok(());
        }
        Err(failure) => return Err(failure), // its kind says what to do next
    };
    println!("{cart}: holds a tee for {:?}", held.expires_in());

    match money {
        Money::Comes => {
            let paid = ConfirmRequest {
                // The money is here: if the hold has died meanwhile, try to take the tee again.
                on_expired: OnExpired::Rehold,
                reference: Reference::new(format!("order-of-{cart}")).ok(),
                ..ConfirmRequest::default()
            };
            engine.confirm(held.hold.id, paid).await?;
            println!("{cart}: has paid, the tee is allocated");
        }
        Money::Fails => {
            let reason = Reason::new("payment failed").ok();
            engine.release(held.hold.id, reason, None).await?;
            println!("{cart}: has not paid, the tee is for the next one");
        }
    }
    Ok(())
}

/// With a key, the request can be sent again if the reply was lost: it is done once.
fn one_tee(tee: &ItemKey, cart: &str) -> Result<PlaceRequest, InvalidName> {
    let lines = Basket::new([(tee.clone(), Quantity::ONE)]).expect("one line");
    let key = Some(IdempotencyKey::new(format!("checkout-of-{cart}"))?);
    Ok(PlaceRequest { key, ..PlaceRequest::new(Owner::new(cart)?, lines) })
}

fn in_words(refusal: &Rejection) -> String {
    match refusal {
        Rejection::InsufficientStock { lines, .. } => {
            let asked = &lines[0];
            let wait = asked.next_due_at.map_or("and none is about to be", |_| "but try later");
            format!("wants {} and {} are there, {wait}", asked.requested, asked.available)
        }
        other => format!("{other} ({})", other.code()),
    }
}
