//! `stockhold hold`: the verbs on holds, over HTTP.

mod table;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use stockhold::{HoldId, Owner, Reason, Reference, Sku, Ttl};

use super::{
    Exit, Fault,
    basket::{Wanted, as_json},
    pages::{List, Part},
    path::Path,
    remote::{Ask, Remote, show},
    repeat::Repeat,
    when::ttl,
};

/// Places holds, looks at them, and ends them, on a server.
///
/// Ends with 0 if it was done, 3 if there is not enough stock, 4 if the hold has expired, 1 if it
/// was not done for another reason, 2 if the command makes no sense.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct HoldCommand {
    /// Print what the server answers, as it came.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  Hold two mugs and a shirt from the north store for 15 minutes:
    stockhold hold place --owner cart-981 --line MUG=2 --line TEE-RED-M@north=1 --ttl 15m
  The customer has paid, perhaps too late; take the units again if they are still there:
    stockhold hold confirm 01927c1e-4a3b-7c5d-8e6f-0123456789ab --rehold --reference order-4711
  What a cart holds right now:
    stockhold hold list --owner cart-981 --state active";

#[derive(Debug, Subcommand)]
enum Verb {
    Place(Place),
    Get(Get),
    List(Which),
    Confirm(Confirm),
    Release(Release),
    Extend(Extend),
    /// Confirmed units leave the house.
    ///
    /// Without lines, all units that are still open. With lines, only these.
    Ship(OfConfirmed),
    /// Confirmed units go back to sale.
    ///
    /// Without lines, all units that are still open. With lines, only these.
    Cancel(OfConfirmed),
    Revoke(Revoke),
}

/// Holds units until a deadline.
///
/// All lines are held, or none. If a line cannot be held, all that cannot be are named, and it ends
/// with 3. If the answer is lost, the command may be repeated with the same --idempotency-key: it
/// then shows the same hold.
#[derive(Debug, Args)]
#[command(after_help = PLACE_EXAMPLES)]
struct Place {
    /// Whom it is for, for example a cart.
    #[arg(long)]
    owner: Owner,

    /// What to hold: SKU=UNITS, or SKU@LOCATION=UNITS; once for each item.
    #[arg(long = "line", required = true, value_name = "SKU[@LOCATION]=UNITS")]
    lines: Vec<Wanted>,

    /// For how long: 500ms, 30s, 15m. The server grants what its limits allow [default: 30s]
    #[arg(long, value_parser = ttl, value_name = "TIME")]
    ttl: Option<Ttl>,

    /// The shop's own mark, for example an order.
    #[arg(long)]
    reference: Option<Reference>,

    /// A hold of the same owner to give back in the same step.
    #[arg(long, value_name = "ID")]
    replaces: Option<HoldId>,

    #[command(flatten)]
    repeat: Repeat,
}

const PLACE_EXAMPLES: &str = "\
Examples:
  One mug for the default time of the server:
    stockhold hold place --owner cart-981 --line MUG=1
  The customer changed the basket; the old hold is given back in the same step, or stays:
    stockhold hold place --owner cart-981 --line MUG=3 --replaces 01927c1e-4a3b-7c5d-8e6f-0123456789ab
  In a script, safe to be repeated:
    id=$(stockhold hold place --owner cart-981 --line MUG=1 --idempotency-key cart-981-1 --json | jq -r .id)";

/// Shows a hold as it is now.
#[derive(Debug, Args)]
struct Get {
    /// Which hold.
    id: HoldId,
}

/// Lists holds, the newest first.
#[derive(Debug, Args)]
struct Which {
    /// Only those of this owner.
    #[arg(long)]
    owner: Option<Owner>,

    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<State>,

    /// Only those of this SKU; together with --state active.
    #[arg(long)]
    sku: Option<Sku>,

    /// Go on from here.
    #[arg(long)]
    cursor: Option<String>,

    #[command(flatten)]
    part: Part,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Active,
    Confirmed,
    Released,
    Expired,
    Revoked,
    Shipped,
    Cancelled,
}

/// The customer has paid: the units are theirs.
///
/// Without lines all that was asked for is confirmed. With lines the rest is released. If the hold
/// has expired, it ends with 4.
#[derive(Debug, Args)]
struct Confirm {
    /// Which hold.
    id: HoldId,

    /// What to confirm, if not all: SKU=UNITS, or SKU@LOCATION=UNITS.
    #[arg(long = "line", value_name = "SKU[@LOCATION]=UNITS")]
    lines: Vec<Wanted>,

    /// If the hold has expired, take the units again, if they are still there.
    #[arg(long)]
    rehold: bool,

    /// Replaces the hold's own reference.
    #[arg(long)]
    reference: Option<Reference>,

    #[command(flatten)]
    repeat: Repeat,
}

/// Gives all held units back.
#[derive(Debug, Args)]
struct Release {
    /// Which hold.
    id: HoldId,

    /// Why.
    #[arg(long)]
    reason: Option<Reason>,

    #[command(flatten)]
    repeat: Repeat,
}

/// Moves the deadline to so long from now; never to an earlier time.
#[derive(Debug, Args)]
struct Extend {
    /// Which hold.
    id: HoldId,

    /// How long from now: 30s, 15m.
    #[arg(long, value_parser = ttl, value_name = "TIME")]
    ttl: Ttl,

    #[command(flatten)]
    repeat: Repeat,
}

/// Which of the units that are confirmed.
#[derive(Debug, Args)]
struct OfConfirmed {
    /// Which hold.
    id: HoldId,

    /// Which units, if not all: SKU=UNITS, or SKU@LOCATION=UNITS.
    #[arg(long = "line", value_name = "SKU[@LOCATION]=UNITS")]
    lines: Vec<Wanted>,

    #[command(flatten)]
    repeat: Repeat,
}

/// Takes all held units away, whatever the customer wants: an operator's verb.
#[derive(Debug, Args)]
struct Revoke {
    /// Which hold.
    id: HoldId,

    /// Why.
    #[arg(long)]
    reason: Reason,

    #[command(flatten)]
    repeat: Repeat,
}

impl HoldCommand {
    pub(super) fn run(self, remote: &Remote) -> Result<Exit, Fault> {
        let json = self.json;
        self.verb.run(remote, json).map_err(|fault| fault.for_reader(json))?;
        Ok(Exit::Ok)
    }
}

impl Verb {
    fn run(self, remote: &Remote, json: bool) -> Result<(), Fault> {
        let ask = match self {
            Self::List(which) => return which.list(json).show(remote),
            Self::Get(Get { id }) => Ask::get(hold(id)),
            Self::Place(place) => place.ask()?,
            Self::Confirm(confirm) => confirm.ask()?,
            Self::Release(Release { id, reason, repeat }) => {
                let body = json!({"reason": reason.as_ref().map(Reason::as_str)});
                Ask::post(hold(id).part("release"), body, repeat.key)?
            }
            Self::Extend(Extend { id, ttl, repeat }) => {
                let body = json!({"ttl_ms": ttl.as_millis()});
                Ask::post(hold(id).part("extend"), body, repeat.key)?
            }
            Self::Ship(units) => units.ask("ship")?,
            Self::Cancel(units) => units.ask("cancel")?,
            Self::Revoke(Revoke { id, reason, repeat }) => {
                let body = json!({"reason": reason.as_str()});
                Ask::post(hold(id).part("revoke"), body, repeat.key)?
            }
        };
        let reply = remote.talk(async |server| server.ask(&ask).await)?;
        show(&reply, json, table::hold)
    }
}

fn hold(id: HoldId) -> Path {
    Path::of("/v1/holds").part(id)
}

impl Place {
    fn ask(self) -> Result<Ask, Fault> {
        let Self { owner, lines, ttl, reference, replaces, repeat } = self;
        let body = json!({
            "owner": owner.as_str(),
            "lines": as_json(&lines),
            "ttl_ms": ttl.map(Ttl::as_millis),
            "reference": reference.as_ref().map(Reference::as_str),
            "replaces": replaces.map(|id| id.to_string()),
        });
        Ask::post(Path::of("/v1/holds"), body, repeat.key)
    }
}

impl Confirm {
    fn ask(self) -> Result<Ask, Fault> {
        let Self { id, lines, rehold, reference, repeat } = self;
        let body = json!({
            "lines": some(&lines),
            "on_expired": rehold.then_some("rehold"),
            "reference": reference.as_ref().map(Reference::as_str),
        });
        Ask::post(hold(id).part("confirm"), body, repeat.key)
    }
}

impl OfConfirmed {
    fn ask(self, verb: &str) -> Result<Ask, Fault> {
        let Self { id, lines, repeat } = self;
        Ask::post(hold(id).part(verb), json!({"lines": some(&lines)}), repeat.key)
    }
}

/// No line stands for all of them.
fn some(lines: &[Wanted]) -> Option<Value> {
    (!lines.is_empty()).then(|| as_json(lines))
}

impl Which {
    fn list(&self, json: bool) -> List<'_, super::answer::Hold> {
        let state = self.state.and_then(|state| state.to_possible_value());
        let path = Path::of("/v1/holds")
            .query("owner", self.owner.as_ref())
            .query("state", state.as_ref().map(clap::builder::PossibleValue::get_name))
            .query("sku", self.sku.as_ref());
        let (from, part) = (self.cursor.clone(), &self.part);
        List { path, goes_on: "cursor", from, part, json, table: table::holds }
    }
}
