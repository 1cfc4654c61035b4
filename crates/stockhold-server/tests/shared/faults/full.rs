//! Row 21: the disk of Postgres is full.

use std::{fs::File, io::Write, path::Path, process::Command, time::Duration};

use stockhold_testkit::{PostgresServer, until};
use tempfile::TempDir;

use super::crowd::Crowd;
use crate::shop::Shop;

/// A small disk in memory, of which a server has its folder.
struct Disk(TempDir);

impl Disk {
    fn of_mib(mib: u32) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={mib}m,mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "stockhold-test"]).arg(disk.path());
        assert!(mount.status().unwrap().success(), "a small disk needs the rights of root");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Nothing more fits.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, if somebody still looks into it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_full_disk_stops_the_shop_and_loses_nothing_that_was_answered() {
    let disk = Disk::of_mib(160);
    let postgres = PostgresServer::set_up().inside(disk.path()).with("max_wal_size", "32MB");
    let mut shop = Shop::open_on(postgres.with("wal_keep_size", 0).start(), 3);
    let crowd = Crowd::gather(&shop, 12).await;
    crowd.wait_for_sales(60);
    disk.fill();
    let mut ann = crowd.another(shop.address(0));
    let mut n = 0;
    let told = loop {
        let told = ann.place(&format!("ann-{n}"), &[("TEE", 1)], super::crowd::TTL).await;
        if told.status() != 201 {
            break told;
        }
        n += 1;
        assert!(n < 100_000, "the disk is never full");
    };
    assert_eq!((told.status(), told.code()), (503, Some("unavailable")), "{told:?}");
    assert!(told.answer().is_some_and(|answer| answer.retry_after.is_some()), "{told:?}");
    disk.empty();
    assert!(shop.postgres.log().contains("No space left on device"), "it was something else");
    if shop.postgres.try_psql("SELECT 1").is_err() {
        shop.postgres.restart();
    }
    until(Duration::from_secs(30), "Postgres", || shop.postgres.try_psql("SELECT 1"));
    crowd.wait_for_sales(60);
    crowd.leave_all_well(&shop).await;
    drop(shop);
    drop(disk);
}
