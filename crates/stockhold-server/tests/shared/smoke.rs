//! The frame itself.

use std::{sync::Arc, time::Duration};

use stockhold_testkit::{Recorder, history::Rest};

use crate::{shop::Shop, shopper::Shopper};

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_holds_another_confirms() {
    let shop = Shop::open(2);
    shop.stock("MUG", 3).await;
    let recorder = Arc::new(Recorder::new("shoppers"));
    let mut ann = Shopper::recorded(shop.address(0), &recorder);
    let mut bob = Shopper::recorded(shop.address(1), &recorder);
    let hold = ann.place("ann", &[("MUG", 2)], TTL).await.id();
    assert_eq!(bob.place("bob", &[("MUG", 2)], TTL).await.code(), Some("insufficient_stock"));
    let late = bob.place("eve", &[("MUG", 1)], TTL).await.id();
    assert_eq!(bob.confirm(&hold).await.status(), 200);
    assert_eq!(shop.units(0, "MUG").await, [3, 1, 2, 0]);

    let account = shop.account(&[("MUG", 3)]);
    recorder.history().expect_clean(&account, Rest::Busy);
    assert_eq!((account.sales.len(), account.live.len()), (1, 1));

    // The clocks of a recorded history know nothing of time that is moved by hand.
    shop.pass(TTL);
    assert_eq!(shop.keeper(0).confirm(&late).await.code(), Some("hold_expired"));
    shop.expect_sound();
}
