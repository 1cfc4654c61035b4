//! One thread starts all children, and never ends.
//!
//! The kernel sends the signal of `PR_SET_PDEATHSIG` when the *thread* that started a child ends,
//! and a test runs in a thread that may end long before its process: the children of a server that
//! several tests share would be gone.

use std::{
    io,
    process::{Child, Command},
    sync::{
        LazyLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

type Order = (Command, SyncSender<io::Result<Child>>);

static NURSERY: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
    let (orders, queue) = sync_channel::<Order>(0);
    thread::spawn(move || {
        for (mut command, reply) in queue {
            // Whoever ordered it waits for it.
            let _ = reply.send(command.spawn());
        }
    });
    orders
});

pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let (reply, child) = sync_channel(1);
    NURSERY.send((command, reply)).expect("the nursery never ends");
    child.recv().expect("the nursery answers")
}
