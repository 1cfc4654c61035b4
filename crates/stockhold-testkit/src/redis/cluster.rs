//! A Redis Cluster: members that share the keys among them.

use super::{RedisServer, START};
use crate::time::until;

const SLOTS: usize = 16_384;

/// Three or more members, each with a part of the slots.
#[derive(Debug)]
pub struct RedisCluster {
    members: Vec<RedisServer>,
}

fn member() -> RedisServer {
    RedisServer::set_up().with("cluster-enabled", "yes").with_tcp().start()
}

impl RedisCluster {
    /// So many. Returns when all of them know who has which slots.
    ///
    /// # Panics
    /// When they do not come together within 30 s.
    #[must_use]
    pub fn start(members: usize) -> Self {
        let members: Vec<_> = (0..members).map(|_| member()).collect();
        let cluster = Self { members };
        cluster.share_slots();
        for member in &cluster.members[1..] {
            cluster.meet(member);
        }
        cluster.agree();
        cluster
    }

    /// One more, that has nothing yet. Returns when all others know it.
    ///
    /// # Panics
    /// As [`RedisCluster::start`].
    pub fn grow(&mut self) {
        let (newest, epoch) = (member(), self.members.len() + 1);
        newest.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
        self.meet(&newest);
        let id = newest.cli(&["CLUSTER", "MYID"]);
        self.members.push(newest);
        for member in &self.members {
            until(START, "a new member that all know", || {
                match member.cli(&["CLUSTER", "NODES"]) {
                    nodes if nodes.contains(&id) && !nodes.contains("handshake") => Ok(()),
                    nodes => Err(nodes),
                }
            });
        }
        self.agree();
    }

    fn share_slots(&self) {
        let slots = |n: usize| n * SLOTS / self.members.len();
        for (n, member) in self.members.iter().enumerate() {
            let (first, last) = (slots(n).to_string(), (slots(n + 1) - 1).to_string());
            member.cli(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            // Each begins with another one, or they would quarrel for a while.
            member.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
        }
    }

    /// The first one tells it of the others, and these of it.
    fn meet(&self, member: &RedisServer) {
        let address = member.address().expect("a member has a port");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let bus = member.bus.as_ref().expect("a member has a bus").number().to_string();
        self.members[0].cli(&["CLUSTER", "MEET", &host, &port, &bus]);
    }

    /// Waits until all members say that every slot has somebody.
    fn agree(&self) {
        for member in &self.members {
            until(START, "a whole Cluster", || match member.cli(&["CLUSTER", "INFO"]) {
                info if info.contains("cluster_state:ok") => Ok(()),
                info => Err(info),
            });
        }
    }

    /// Where it is: its first member knows the others.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://stockhold:{}@{}", RedisServer::PASSWORD, self.addresses()[0])
    }

    /// The same for whoever may do everything.
    #[must_use]
    pub fn root_url(&self) -> String {
        format!("redis+cluster://{}", self.addresses()[0])
    }

    /// Its members.
    #[must_use]
    pub fn members(&self) -> &[RedisServer] {
        &self.members
    }

    /// Which member has this key: the one that does not say who else has it.
    ///
    /// # Panics
    /// When none has.
    #[must_use]
    pub fn home_of(&self, key: &str) -> &RedisServer {
        let mut members = self.members.iter();
        let home = members.find(|member| member.try_cli(&["GET", key]).is_ok());
        home.expect("every slot has a member")
    }

    /// Gives the slot of a key, and what it has, to another member.
    ///
    /// # Panics
    /// When one of them refuses.
    pub fn move_slot_of(&self, key: &str, to: &RedisServer) {
        let from = self.home_of(key);
        let slot = from.cli(&["CLUSTER", "KEYSLOT", key]);
        let [from_id, to_id] = [from, to].map(|member| member.cli(&["CLUSTER", "MYID"]));
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        let address = to.address().expect("a member has a port");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        for key in keys.lines() {
            from.cli(&["MIGRATE", &host, &port, key, "0", "5000"]);
        }
        for member in [to, from] {
            member.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }

    fn addresses(&self) -> Vec<String> {
        let addresses = self.members.iter().filter_map(RedisServer::address);
        addresses.map(|address| address.to_string()).collect()
    }
}
