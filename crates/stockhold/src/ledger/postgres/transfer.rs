//! A database as one end of a move; see `ledger/transfer.rs`.

use std::{collections::HashMap, pin::pin, time::Duration};

use async_trait::async_trait;
use stockhold_core::{Limits, verify::Report};
use tokio_postgres::{
    Client, Error, Row,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    PostgresOptions, audit, batch::Desk, check_version, desk, failure::Trouble, life::Time,
    link::Link, migrate, refuse_to_be_unsafe, schema, url::PostgresUrl,
};
use crate::{
    Failure,
    ledger::transfer::{
        Stage,
        end::{End, Mark, Seal, State},
        raced,
        rows::{
            CarriedRow, Chunk, HoldRow, KeyRow, Life, MovementRow, Rows, StepRow, StockRow, hex,
            number,
        },
    },
};

/// How long counting, sealing or writing a chunk may take.
const LONG: Duration = Duration::from_secs(600);
const CONNECTIONS: usize = 2;
/// Whatever the database or the role is set to: who waits for a lock has to see what was done until
/// then.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '30s'; \
    SET LOCAL statement_timeout = '600s'";

/// A database, which servers may have open until it is sealed.
pub(in crate::ledger) struct Database {
    desk: Desk,
}

impl Database {
    pub(in crate::ledger) fn at(url: &PostgresUrl) -> Result<Self, Failure> {
        let link = Link::new(url, CONNECTIONS)?;
        Ok(Self { desk: desk(link, Limits::default(), Time::Server) })
    }

    /// One trip that may take long.
    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut connection = self.desk.link.connection().await?;
        let asked = connection.trip_within(LONG, work).await;
        if asked.is_err() {
            // What it left open ends with it.
            connection.discard();
        }
        asked.map_err(Trouble::into_failure)
    }

    /// The same in a transaction, which is taken back if it fails, or says no.
    async fn change(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<bool, Error>,
    ) -> Result<bool, Failure> {
        let asked = self.ask(async |client| {
            client.batch_execute(BEGIN).await?;
            let is_done = work(client).await?;
            client.batch_execute(if is_done { "COMMIT" } else { "ROLLBACK" }).await?;
            Ok(is_done)
        });
        asked.await
    }

    /// The same, with the mark moved.
    async fn change_marked(
        &self,
        from: &Mark,
        to: &Mark,
        work: impl AsyncFnOnce(&Client) -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let changed = self.change(async |client| {
            let update =
                "UPDATE moving_in SET stage = $1, after = $2 WHERE stage = $3 AND after = $4";
            let places = [&to.stage, &to.after, &from.stage, &from.after];
            let places = places.map(|text| (text as _, Type::TEXT));
            if client.execute_typed(update, &places).await? != 1 {
                return Ok(false);
            }
            work(client).await.map(|()| true)
        });
        if changed.await? { Ok(()) } else { Err(raced()) }
    }
}

#[async_trait]
impl End for Database {
    async fn look(&mut self) -> Result<Option<State>, Failure> {
        let mut connection = self.desk.link.connection().await?;
        let options = PostgresOptions { connections: CONNECTIONS, ..PostgresOptions::default() };
        refuse_to_be_unsafe(&mut connection, &options).await?;
        let version = connection.trip(async |client| schema::version(client).await).await;
        drop(connection);
        match version.map_err(Trouble::into_failure)? {
            None => Ok(None),
            version => {
                check_version(version)?;
                self.ask(async |client| state(client).await).await.map(Some)
            }
        }
    }

    async fn claim(&mut self) -> Result<State, Failure> {
        migrate(&mut self.desk.link.connection().await?).await?;
        self.ask(async |client| state(client).await).await
    }

    async fn verify(&mut self) -> Result<Report, Failure> {
        audit::verify(&self.desk).await.map_err(Trouble::into_failure)
    }

    /// A batch has a lock on the table of stock before it reads whether the ledger is sealed, so
    /// whoever has the whole table has no batch under way, and each that comes sees the seal.
    async fn reseal(&mut self, from: Option<&Seal>, to: Option<&Seal>) -> Result<bool, Failure> {
        let [from_id, to_id] = [from, to].map(|seal| seal.and_then(|seal| seal.to));
        let has_moved = to.is_some_and(|seal| seal.has_moved);
        let [from, to] = [from, to].map(|seal| seal.map(|seal| seal.why.as_str()));
        let changed = self.change(async |client| {
            client
                .batch_execute("LOCK TABLE stock, hold, idempotency, movement IN EXCLUSIVE MODE")
                .await?;
            let update = "UPDATE ledger SET sealed = $1, moves_to = $2, has_moved = $3 \
                          WHERE sealed IS NOT DISTINCT FROM $4 \
                          AND moves_to IS NOT DISTINCT FROM $5";
            let params: Params<'_> = &[
                (&to, Type::TEXT),
                (&to_id, Type::UUID),
                (&has_moved, Type::BOOL),
                (&from, Type::TEXT),
                (&from_id, Type::UUID),
            ];
            Ok(client.execute_typed(update, params).await? == 1)
        });
        changed.await
    }

    async fn begin(&mut self, mark: &Mark, why: &str) -> Result<bool, Failure> {
        let changed = self.change(async |client| {
            client.batch_execute("LOCK TABLE stock, moving_in IN EXCLUSIVE MODE").await?;
            let found = state(client).await?;
            if found.has_rows || found.seal.is_some() || found.mark.is_some() {
                return Ok(false);
            }
            let insert =
                "INSERT INTO moving_in (source, label, stage, after) VALUES ($1, $2, $3, $4)";
            let places: Params<'_> = &[
                (&mark.source, Type::UUID),
                (&mark.label, Type::TEXT),
                (&mark.stage, Type::TEXT),
                (&mark.after, Type::TEXT),
            ];
            client.execute_typed(insert, places).await?;
            set_sealed(client, Some(why)).await.map(|()| true)
        });
        changed.await
    }

    async fn count(&mut self, stage: Stage) -> Result<u64, Failure> {
        let count = format!("SELECT count(*) FROM {}", stage.table());
        let asked = self.ask(async |client| {
            let rows: i64 = client.query_typed_one(&count, &[]).await?.try_get(0)?;
            Ok(u64::try_from(rows).unwrap_or(0))
        });
        asked.await
    }

    async fn read(&mut self, stage: Stage, after: &str, most: usize) -> Result<Chunk, Failure> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let asked = self.ask(async |client| match stage {
            Stage::Stock => stock(client, after, most).await,
            Stage::Carried => carried(client, after, most).await,
            Stage::Movements => movements(client, after, most).await,
            Stage::Holds => holds(client, after, most).await,
            Stage::Keys => keys(client, after, most).await,
        });
        asked.await
    }

    async fn write(&mut self, chunk: &Chunk, from: &Mark, to: &Mark) -> Result<(), Failure> {
        let changed = self.change_marked(from, to, async |client| match &chunk.rows {
            Rows::Stock(rows) => write_stock(client, rows).await,
            Rows::Carried(rows) => write_carried(client, rows).await,
            Rows::Movements(rows) => write_movements(client, rows).await,
            Rows::Holds(rows) => write_holds(client, rows).await,
            Rows::Keys(rows) => write_keys(client, rows).await,
        });
        changed.await
    }

    async fn life(&mut self) -> Result<Life, Failure> {
        let asked = self.ask(async |client| {
            let row = client.query_typed_one("SELECT alive_at, graces FROM ledger", &[]).await?;
            let graces: Vec<i64> = row.try_get(1)?;
            let graces = graces.as_chunks::<3>().0.to_vec();
            Ok(Life { alive_at: row.try_get(0)?, graces })
        });
        asked.await
    }

    /// The planner knows nothing yet of what has come.
    async fn finish(&mut self, life: &Life, mark: &Mark) -> Result<(), Failure> {
        let graces = life.graces.concat();
        let changed = self.change_marked(mark, mark, async |client| {
            let alive = "UPDATE ledger SET alive_at = $1, graces = $2";
            let params: Params<'_> = &[(&life.alive_at, Type::INT8), (&graces, Type::INT8_ARRAY)];
            client.execute_typed(alive, params).await?;
            client.batch_execute(NUMBERS).await
        });
        changed.await?;
        self.ask(async |client| client.batch_execute(ANALYZE).await).await
    }

    async fn conclude(&mut self, from: &Mark, to: &Mark, why: Option<&str>) -> Result<(), Failure> {
        self.change_marked(from, to, async |client| set_sealed(client, why).await).await
    }
}

type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// New items and movements are numbered behind those that are there.
const NUMBERS: &str = "\
    UPDATE counter SET last_movement = (SELECT coalesce(max(id), 0) FROM movement);
    SELECT setval(pg_get_serial_sequence('stock', 'item'), coalesce(max(item), 1), count(*) > 0)
        FROM stock";
const ANALYZE: &str = "ANALYZE stock, hold, transition, active, movement, idempotency, carried";

async fn set_sealed(client: &Client, why: Option<&str>) -> Result<(), Error> {
    let seal = "UPDATE ledger SET sealed = $1";
    client.execute_typed(seal, &[(&why, Type::TEXT)]).await.map(drop)
}

async fn state(client: &Client) -> Result<State, Error> {
    let read = "SELECT id, sealed, moves_to, has_moved, \
        EXISTS (SELECT FROM stock) OR EXISTS (SELECT FROM hold) \
            OR EXISTS (SELECT FROM movement) OR EXISTS (SELECT FROM idempotency) FROM ledger";
    let mark = "SELECT source, label, stage, after FROM moving_in";
    let row = client.query_typed_one(read, &[]).await?;
    let mark = client.query_typed_opt(mark, &[]).await?.as_ref().map(mark_of).transpose()?;
    let why: Option<String> = row.try_get(1)?;
    let (to, has_moved) = (row.try_get(2)?, row.try_get(3)?);
    let seal = why.map(|why| Seal { why, to, has_moved });
    Ok(State { id: row.try_get(0)?, has_rows: row.try_get(4)?, seal, mark })
}

fn mark_of(row: &Row) -> Result<Mark, Error> {
    let (source, label) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Mark { source, label, stage: row.try_get(2)?, after: row.try_get(3)? })
}

async fn stock(client: &Client, after: &str, most: i64) -> Result<Chunk, Error> {
    let read = "SELECT item, sku, location, on_hand, held, allocated, lent, safety_stock, version, \
                touched_at FROM stock WHERE item > $1 ORDER BY item LIMIT $2";
    let found = behind(client, read, after, most).await?;
    let row = |row: &Row| {
        let mut values = [0; 7];
        for (at, value) in (3..).zip(&mut values) {
            *value = row.try_get(at)?;
        }
        let (item, sku, location) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(StockRow { item, sku, location, values })
    };
    let rows = found.iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Chunk::of(rows, Rows::Stock, |row| row.item.to_string()))
}

async fn carried(client: &Client, after: &str, most: i64) -> Result<Chunk, Error> {
    let read = "SELECT item, shipped FROM carried WHERE item > $1 ORDER BY item LIMIT $2";
    let found = behind(client, read, after, most).await?;
    let row = |row: &Row| Ok(CarriedRow { item: row.try_get(0)?, shipped: row.try_get(1)? });
    let rows = found.iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Chunk::of(rows, Rows::Carried, |row| row.item.to_string()))
}

async fn movements(client: &Client, after: &str, most: i64) -> Result<Chunk, Error> {
    let read = "SELECT id, item, kind, delta, on_hand_after, reason, reference, at FROM movement \
                WHERE id > $1 ORDER BY id LIMIT $2";
    let found = behind(client, read, after, most).await?;
    let row = |row: &Row| {
        Ok(MovementRow {
            id: row.try_get(0)?,
            item: row.try_get(1)?,
            kind: row.try_get(2)?,
            delta: row.try_get(3)?,
            on_hand_after: row.try_get(4)?,
            reason: row.try_get(5)?,
            reference: row.try_get(6)?,
            at: row.try_get(7)?,
        })
    };
    let rows = found.iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Chunk::of(rows, Rows::Movements, |row| row.id.to_string()))
}

async fn behind(client: &Client, read: &str, after: &str, most: i64) -> Result<Vec<Row>, Error> {
    client.query_typed(read, &[(&number(after), Type::INT8), (&most, Type::INT8)]).await
}

/// Rows that are numbered by an id; the lowest id of all is nobody's.
async fn behind_id(client: &Client, read: &str, after: &str, most: i64) -> Result<Vec<Row>, Error> {
    let after = Uuid::parse_str(after).unwrap_or_default();
    client.query_typed(read, &[(&after, Type::UUID), (&most, Type::INT8)]).await
}

async fn holds(client: &Client, after: &str, most: i64) -> Result<Chunk, Error> {
    let read = "SELECT id, owner, reference, created_at, deadline, max_deadline, replaced_by, \
                items, units FROM hold WHERE id > $1 ORDER BY id LIMIT $2";
    let found = behind_id(client, read, after, most).await?;
    let ids = found.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, Error>>()?;
    let mut steps = steps(client, &ids).await?;
    let row = |row: &Row| {
        let id: Uuid = row.try_get(0)?;
        Ok(HoldRow {
            id: id.into_bytes(),
            owner: row.try_get(1)?,
            reference: row.try_get(2)?,
            times: [row.try_get(3)?, row.try_get(4)?, row.try_get(5)?],
            replaced_by: row.try_get::<_, Option<Uuid>>(6)?.map(Uuid::into_bytes),
            items: row.try_get(7)?,
            units: row.try_get(8)?,
            steps: steps.remove(&id).unwrap_or_default(),
        })
    };
    let rows = found.iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Chunk::of(rows, Rows::Holds, |row| hex(row.id)))
}

async fn steps(client: &Client, ids: &Vec<Uuid>) -> Result<HashMap<Uuid, Vec<StepRow>>, Error> {
    let read = "SELECT hold, n, step, at, reference, reason, lines, units FROM transition \
                WHERE hold = ANY($1) ORDER BY hold, n";
    let found = client.query_typed(read, &[(ids, Type::UUID_ARRAY)]).await?;
    let mut steps: HashMap<Uuid, Vec<StepRow>> = HashMap::new();
    for row in &found {
        let step = StepRow {
            n: row.try_get(1)?,
            step: row.try_get(2)?,
            at: row.try_get(3)?,
            reference: row.try_get(4)?,
            reason: row.try_get(5)?,
            lines: row.try_get::<_, Option<_>>(6)?.unwrap_or_default(),
            units: row.try_get::<_, Option<_>>(7)?.unwrap_or_default(),
        };
        steps.entry(row.try_get(0)?).or_default().push(step);
    }
    Ok(steps)
}

async fn keys(client: &Client, after: &str, most: i64) -> Result<Chunk, Error> {
    let read = "SELECT key, digest, hold, movement, at FROM idempotency \
                WHERE key > $1 ORDER BY key LIMIT $2";
    let found = behind_id(client, read, after, most).await?;
    let row = |row: &Row| {
        let (key, digest): (Uuid, Uuid) = (row.try_get(0)?, row.try_get(1)?);
        Ok(KeyRow {
            key: key.into_bytes(),
            digest: digest.into_bytes(),
            hold: row.try_get::<_, Option<Uuid>>(2)?.map(Uuid::into_bytes),
            movement: row.try_get(3)?,
            at: row.try_get(4)?,
        })
    };
    let rows = found.iter().map(row).collect::<Result<_, Error>>()?;
    Ok(Chunk::of(rows, Rows::Keys, |row| hex(row.key)))
}

/// Values of one row, in the order of its columns.
type Values<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

async fn copy(
    client: &Client,
    into: &str,
    types: &[Type],
    rows: Vec<Values<'_>>,
) -> Result<(), Error> {
    let sink = client.copy_in(&format!("COPY {into} FROM STDIN BINARY")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
    for values in rows {
        let values: Vec<_> = values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await.map(drop)
}

async fn write_stock(client: &Client, rows: &[StockRow]) -> Result<(), Error> {
    let into = "stock (item, sku, location, on_hand, held, allocated, lent, safety_stock, version, \
                touched_at)";
    let mut types = vec![Type::INT8, Type::TEXT, Type::TEXT];
    types.extend([const { Type::INT8 }; 7]);
    let rows = rows.iter().map(|StockRow { item, sku, location, values }| {
        let mut row: Values<'_> = vec![Box::new(item), Box::new(sku), Box::new(location)];
        row.extend(values.iter().map(|value| Box::new(value) as _));
        row
    });
    copy(client, into, &types, rows.collect()).await
}

async fn write_carried(client: &Client, rows: &[CarriedRow]) -> Result<(), Error> {
    let rows = rows.iter().map(|row| vec![Box::new(row.item) as _, Box::new(row.shipped) as _]);
    copy(client, "carried (item, shipped)", &[Type::INT8, Type::INT8], rows.collect()).await
}

async fn write_movements(client: &Client, rows: &[MovementRow]) -> Result<(), Error> {
    let into = "movement (id, item, kind, delta, on_hand_after, reason, reference, at)";
    let (number, text) = (Type::INT8, Type::TEXT);
    let types = [&number, &number, &text, &number, &number, &text, &text, &number];
    let rows = rows.iter().map(|row| -> Values<'_> {
        vec![
            Box::new(row.id),
            Box::new(row.item),
            Box::new(&row.kind),
            Box::new(row.delta),
            Box::new(row.on_hand_after),
            Box::new(&row.reason),
            Box::new(&row.reference),
            Box::new(row.at),
        ]
    });
    copy(client, into, &types.map(Clone::clone), rows.collect()).await
}

async fn write_holds(client: &Client, rows: &[HoldRow]) -> Result<(), Error> {
    let into = "hold (id, owner, reference, created_at, deadline, max_deadline, replaced_by, \
                items, units)";
    let (id, number, text, numbers) = (Type::UUID, Type::INT8, Type::TEXT, Type::INT8_ARRAY);
    let types = [&id, &text, &text, &number, &number, &number, &id, &numbers, &numbers];
    let holds = rows.iter().map(|row| -> Values<'_> {
        let [created_at, deadline, max_deadline] = row.times;
        vec![
            Box::new(Uuid::from_bytes(row.id)),
            Box::new(&row.owner),
            Box::new(&row.reference),
            Box::new(created_at),
            Box::new(deadline),
            Box::new(max_deadline),
            Box::new(row.replaced_by.map(Uuid::from_bytes)),
            Box::new(&row.items),
            Box::new(&row.units),
        ]
    });
    copy(client, into, &types.map(Clone::clone), holds.collect()).await?;
    write_steps(client, rows).await?;
    write_active(client, rows).await
}

async fn write_steps(client: &Client, rows: &[HoldRow]) -> Result<(), Error> {
    let into = "transition (hold, n, step, at, reference, reason, lines, units)";
    let (text, numbers) = (Type::TEXT, Type::INT8_ARRAY);
    let types = [&Type::UUID, &Type::INT4, &text, &Type::INT8, &text, &text, &numbers, &numbers];
    let steps = rows.iter().flat_map(|row| row.steps.iter().map(move |step| (row.id, step)));
    let steps = steps.map(|(id, step)| -> Values<'_> {
        let named = !step.lines.is_empty();
        vec![
            Box::new(Uuid::from_bytes(id)),
            Box::new(step.n),
            Box::new(&step.step),
            Box::new(step.at),
            Box::new(&step.reference),
            Box::new(&step.reason),
            Box::new(named.then_some(&step.lines)),
            Box::new(named.then_some(&step.units)),
        ]
    });
    copy(client, into, &types.map(Clone::clone), steps.collect()).await
}

/// Nobody here has placed them, so all instances wait a little before they expire them.
async fn write_active(client: &Client, rows: &[HoldRow]) -> Result<(), Error> {
    const NOBODY: i32 = 0;
    let into = "active (item, deadline, hold, line, instance)";
    let types = [Type::INT8, Type::INT8, Type::UUID, Type::INT4, Type::INT4];
    let active = rows.iter().filter(|row| row.is_active());
    let lines = active.flat_map(|row| (0_i32..).zip(&row.items).map(move |line| (row, line)));
    let lines = lines.map(|(row, (line, item))| -> Values<'_> {
        let [_, deadline, _] = row.times;
        let id = Uuid::from_bytes(row.id);
        vec![Box::new(item), Box::new(deadline), Box::new(id), Box::new(line), Box::new(NOBODY)]
    });
    copy(client, into, &types, lines.collect()).await
}

async fn write_keys(client: &Client, rows: &[KeyRow]) -> Result<(), Error> {
    let into = "idempotency (key, digest, hold, movement, at)";
    let types = [Type::UUID, Type::UUID, Type::UUID, Type::INT8, Type::INT8];
    let rows = rows.iter().map(|row| -> Values<'_> {
        vec![
            Box::new(Uuid::from_bytes(row.key)),
            Box::new(Uuid::from_bytes(row.digest)),
            Box::new(row.hold.map(Uuid::from_bytes)),
            Box::new(row.movement),
            Box::new(row.at),
        ]
    });
    copy(client, into, &types, rows.collect()).await
}
