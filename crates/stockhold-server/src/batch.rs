//! `POST /v1/batch`: many verbs in one request, each of which succeeds or fails by itself.

use axum::{extract::State, http::HeaderValue};
use serde_json::value::RawValue;
use stockhold::{Adjustment, Engine, Error, Failure, FailureKind, Operation, Outcome};

use crate::{
    access::Granted,
    answer::Answer,
    extract::{BatchJson, NoKey, NoQuery, RequestName},
    problem::Problem,
    wire::{self, Asked, BatchBody},
};

/// The handler.
pub(crate) async fn batch(
    State(engine): State<Engine>,
    NoQuery: NoQuery,
    NoKey: NoKey,
    granted: Granted,
    RequestName(name): RequestName,
    BatchJson(body): BatchJson<BatchBody>,
) -> Result<Answer, Problem> {
    let (asked, items) = (Asked::now(), body.items()?);
    let mut operations = Vec::with_capacity(items.len());
    let wanted: Vec<_> = items.iter().map(|item| take(&granted, item, &mut operations)).collect();
    let mut answers = engine.batch(operations).await.into_iter();
    let answers = wanted.into_iter().map(|wanted| {
        let field = wanted?;
        let answer = answers.next().ok_or_else(|| mismatch("nothing"))?;
        let outcome = answer.map_err(|error| Problem::from(error).out_of_range(field))?;
        written(&outcome, asked)
    });
    Ok(Answer::ok(write(answers, &name)))
}

/// Reads an item, and puts what it asks to the others. Answers the number that it is about.
fn take(
    granted: &Granted,
    item: &RawValue,
    operations: &mut Vec<Operation>,
) -> Result<&'static str, Problem> {
    let op = wire::op(item)?;
    granted.check(op.scope())?;
    let operation = wire::operation(op, item)?;
    let field = match &operation {
        Operation::Adjust { adjustment, .. } => number_of(adjustment),
        Operation::SetPolicy { .. } => "on_hand",
        _ => "lines",
    };
    operations.push(operation);
    Ok(field)
}

/// The number that an adjustment is about.
pub(crate) const fn number_of(adjustment: &Adjustment) -> &'static str {
    match adjustment {
        Adjustment::Receive { .. } => "receive",
        Adjustment::Delta { .. } => "delta",
        Adjustment::Count { .. } => "count",
    }
}

fn written(outcome: &Outcome, asked: Asked) -> Result<Answer, Problem> {
    match outcome {
        Outcome::Placed(placed) => Ok(Answer::placed(placed, asked)),
        Outcome::Settled(settled) => Ok(Answer::settled(settled, asked)),
        Outcome::StockMoved(moved) => Ok(Answer::moved(moved, asked)),
        Outcome::PolicySet(set) => Ok(Answer::policy_set(set, asked)),
        Outcome::Loaded(_) => Err(mismatch("a loaded row")),
    }
}

/// The engine answers each operation with its own sort of outcome; anything else is a bug.
fn mismatch(with: &str) -> Problem {
    let message = format!("an operation of a batch was answered with {with}");
    Problem::from(Error::from(Failure::new(FailureKind::Internal, message)))
}

/// Writes `{"items":[{"status":...,"body":...}, ...]}`: the bodies are JSON already.
fn write(answers: impl Iterator<Item = Result<Answer, Problem>>, name: &HeaderValue) -> Vec<u8> {
    let mut text = b"{\"items\":[".to_vec();
    for (index, answer) in answers.enumerate() {
        let (status, body) = match answer {
            Ok(Answer { status, body, .. }) => (status, body),
            Err(problem) => problem.within(index).written(name),
        };
        let comma = if index == 0 { "" } else { "," };
        text.extend(format!("{comma}{{\"status\":{},\"body\":", status.as_u16()).into_bytes());
        text.extend(body);
        text.push(b'}');
    }
    text.extend(b"]}");
    text
}
