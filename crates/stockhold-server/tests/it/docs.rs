//! The texts for people: every command in them is executed, and every answer compared.
//!
//! Blocks marked `sh` of one file are run by one shell, one after the other. What follows such a
//! block is what it prints: `http` is the status, some headers and some of the members of the last
//! answer, `json` some of the members, `ndjson` the same for each line, `text` some lines. Three
//! dots stand for anything.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::child::{Serving, url};

#[test]
fn the_api_by_example_is_as_it_says() {
    let serving = Serving::start("memory:");
    let text = document("api.md").replace("127.0.0.1:7300", &serving.address);
    assert!(check(&text, &[]) > 15);
}

#[test]
fn the_quick_start_is_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = url(&folder.path().join("stockhold.db"));
    let serving = Serving::start(&ledger);
    let text = document("quick-start.md").replace("sqlite:stockhold.db", &ledger);
    let server = format!("http://{}", serving.address);
    assert!(check(&text, &[("STOCKHOLD_URL", &server)]) > 5);
}

fn document(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A command, and what it prints: in which form, and what of it is told.
#[derive(Debug, Default)]
struct Step {
    command: String,
    expected: Option<(String, String)>,
}

/// Runs a document; answers how many of its commands were run.
fn check(text: &str, environment: &[(&str, &str)]) -> usize {
    let steps = steps(text);
    let printed = run(&steps, environment).unwrap_or_else(|failed| panic!("{failed}"));
    for (step, printed) in steps.iter().zip(&printed) {
        let Some((form, expected)) = &step.expected else { continue };
        if let Err(why) = compare(form, expected, printed) {
            panic!(
                "{}\n--- prints ---\n{printed}\n--- but should ---\n{expected}\n{why}",
                step.command
            );
        }
    }
    steps.len()
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(form) = line.strip_prefix("```").filter(|form| !form.is_empty()) else { continue };
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        match (form, steps.last_mut()) {
            ("sh", _) => steps.push(Step { command: block, expected: None }),
            (form, Some(Step { expected: expected @ None, .. })) => {
                *expected = Some((form.to_owned(), block));
            }
            _ => panic!("an answer to nothing: {block}"),
        }
    }
    steps
}

/// What each command prints, or all that was said if one fails.
fn run(steps: &[Step], environment: &[(&str, &str)]) -> Result<Vec<String>, String> {
    const END: &str = "\n<<< end of step >>>\n";
    let program = PathBuf::from(env!("CARGO_BIN_EXE_stockhold"));
    let mut script = format!("PATH='{}':$PATH\n", program.parent().unwrap().display());
    for step in steps {
        script.push_str(&format!("{}\nprintf '{END}'\n", step.command));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", &script]).current_dir(folder.path());
    shell.envs(environment.iter().copied());
    let output = shell.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("a command failed: {printed}{complaint}"));
    }
    let mut printed: Vec<_> = printed.split(END).map(str::to_owned).collect();
    printed.pop(); // what follows the last end
    Ok(printed)
}

fn compare(form: &str, expected: &str, printed: &str) -> Result<(), String> {
    match form {
        "json" => is_in(&json(expected)?, &json(last_object(printed))?, "answer"),
        "ndjson" => {
            let mut printed = printed.trim().lines();
            expected.lines().try_for_each(|line| {
                let next = printed.next().ok_or("it ends too early")?;
                is_in(&json(line)?, &json(next)?, "line")
            })
        }
        "http" => is_answer(expected, printed),
        "text" => expected.lines().try_for_each(|line| {
            let found = printed.lines().any(|printed| is_like(line, printed));
            found.then_some(()).ok_or_else(|| format!("{line} is missing"))
        }),
        form => Err(format!("nobody knows what {form} is")),
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}

/// Earlier answers of the same block are let be.
fn last_object(printed: &str) -> &str {
    let at = printed.trim_end().rfind("}{").map_or(0, |at| at + 1);
    &printed[at..]
}

fn is_answer(expected: &str, printed: &str) -> Result<(), String> {
    let at = printed.rfind("HTTP/1.1 ").ok_or("there is no status")?;
    let (head, body) = printed[at..].split_once("\n\n").ok_or("there is no end of a head")?;
    let (told, content) = expected.split_once("\n\n").unwrap_or((expected, ""));
    let mut told = told.lines();
    let status = told.next().unwrap_or_default();
    if head.lines().next() != Some(status) {
        return Err(format!("the status is not {status}"));
    }
    for header in told {
        if !head.lines().any(|line| is_like(header, line)) {
            return Err(format!("the header {header} is missing"));
        }
    }
    if content.is_empty() { Ok(()) } else { is_in(&json(content)?, &json(body)?, "answer") }
}

/// Three dots stand for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((begin, end)) = pattern.split_once("...") else {
        return pattern.trim() == text.trim();
    };
    text.starts_with(begin) && text.ends_with(end) && text.len() >= begin.len() + end.len()
}

/// How long something takes, and when it was, is never the same: these only have to be numbers.
const VARYING: [&str; 5] = ["expires_in_ms", "age_ms", "epoch", "seq", "waited_ms"];

/// Everything that is told is so; members that are not told are let be.
fn is_in(told: &Value, answer: &Value, at: &str) -> Result<(), String> {
    match (told, answer) {
        (Value::String(dots), Value::String(_)) if dots == "..." => Ok(()),
        (Value::Object(told), Value::Object(answer)) => told.iter().try_for_each(|(name, told)| {
            let at = format!("{at}.{name}");
            match answer.get(name) {
                None => Err(format!("{at} is missing")),
                Some(Value::Number(_)) if VARYING.contains(&name.as_str()) => Ok(()),
                Some(answer) => is_in(told, answer, &at),
            }
        }),
        (Value::Array(told), Value::Array(answer)) if told.len() == answer.len() => {
            let pairs = told.iter().zip(answer).enumerate();
            pairs
                .into_iter()
                .try_for_each(|(n, (told, answer))| is_in(told, answer, &format!("{at}[{n}]")))
        }
        (told, answer) if told == answer => Ok(()),
        (told, answer) => Err(format!("{at} is {answer}, not {told}")),
    }
}

#[test]
fn an_answer_that_is_not_as_told_is_found() {
    let printed =
        "HTTP/1.1 201 Created\nlocation: /v1/holds/1\n\n{\"a\":1,\"b\":[{\"c\":\"x\",\"d\":2}]}";
    let compare = |expected: &str| compare("http", expected, printed);
    compare("HTTP/1.1 201 Created\nlocation: ...\n\n{\"b\":[{\"c\":\"...\"}]}").unwrap();
    for wrong in [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 201 Created\netag: ...",
        "HTTP/1.1 201 Created\n\n{\"a\":2}",
        "HTTP/1.1 201 Created\n\n{\"e\":1}",
        "HTTP/1.1 201 Created\n\n{\"b\":[]}",
        "HTTP/1.1 201 Created\n\n{\"b\":[{\"c\":\"y\"}]}",
    ] {
        assert!(compare(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_command_that_fails_is_found() {
    let steps = steps("```sh\necho one\n```\n```text\none\n```\n\n```sh\nfalse\n```\n");
    assert_eq!(steps.len(), 2);
    assert_eq!(run(&steps[..1], &[]).unwrap(), ["one\n"]);
    assert!(run(&steps, &[]).unwrap_err().contains("one"));
}
