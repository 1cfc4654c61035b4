//! `docs/settings.md`, made from `default.toml`.

use std::fmt::Write;

use super::{DEFAULTS, layers::variable_of};

const GUIDE: &str = "docs/settings.md";

/// The whole page.
fn guide() -> String {
    let mut page = Page::default();
    DEFAULTS.lines().for_each(|line| page.take(line));
    page.end()
}

#[derive(Default)]
struct Page {
    text: String,
    /// Lines of comment that belong to what comes next.
    comment: Vec<&'static str>,
    section: &'static str,
}

impl Page {
    fn take(&mut self, line: &'static str) {
        if let Some(comment) = line.strip_prefix('#') {
            self.comment.push(comment.strip_prefix(' ').unwrap_or(comment));
        } else if let Some(section) = line.strip_prefix('[') {
            self.head(section.trim_end_matches(']'));
        } else if let Some((key, value)) = line.split_once(" = ") {
            self.row(key, value);
        } else if self.section.is_empty() {
            self.preamble();
        }
    }

    fn preamble(&mut self) {
        let made = "<!-- Made from crates/stockhold-server/default.toml: change that. -->";
        self.text = format!("# Settings\n\n{made}\n\n{}\n", self.paragraphs());
    }

    fn head(&mut self, section: &'static str) {
        self.section = section;
        let words = self.paragraphs();
        self.write(&format!("\n## `[{section}]`\n\n{words}\n\n"));
        self.write("| setting | default | variable | meaning |\n|---|---|---|---|\n");
    }

    fn row(&mut self, key: &str, value: &str) {
        let (variable, words) = (variable_of(self.section, key), self.comment.join(" "));
        self.comment.clear();
        self.write(&format!("| `{key}` | `{value}` | `{variable}` | {words} |\n"));
    }

    /// What follows the last section is about keys.
    fn end(mut self) -> String {
        let words = self.paragraphs();
        self.write(&format!("\n## `[[keys]]`\n\n{words}\n"));
        self.text
    }

    fn paragraphs(&mut self) -> String {
        std::mem::take(&mut self.comment).join("\n")
    }

    fn write(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = self.text.write_str(text);
    }
}

/// `UPDATE=1 cargo test settings::guide` writes it anew.
#[test]
fn the_page_on_settings_is_made_from_the_defaults() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(GUIDE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, guide()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == guide(), "{GUIDE} is not what default.toml says: UPDATE=1 writes it anew");
}

/// What the page says of a range, the program says too.
#[test]
fn the_ranges_that_are_written_down_are_those_that_are_kept() {
    let (mut checked, mut section, mut comment) = (0, "", String::new());
    for line in DEFAULTS.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment.push_str(&format!(" {words}"));
        } else if let Some(name) = line.strip_prefix('[') {
            (section, comment) = (name.trim_end_matches(']'), String::new());
        } else if let Some((key, value)) = line.split_once(" = ") {
            if let Some(range) = range_in(&comment) {
                let beyond = if value.starts_with('"') { "\"40000d\"" } else { "4294967295" };
                let file = format!("[{section}]\n{key} = {beyond}\n");
                let told = super::Layers::default().file("a.toml", file).read().unwrap_err();
                let told = told.to_string().replace('"', "");
                assert!(told.ends_with(&range), "{section}.{key}: {range}: {told}");
                checked += 1;
            }
            comment.clear();
        }
    }
    assert!(checked > 15, "only {checked} ranges were found");
}

/// `from 1s to 1h`, if both ends are numbers.
fn range_in(comment: &str) -> Option<String> {
    let (_, range) = comment.rsplit_once("From ")?;
    let (from, to) = range.trim_end_matches('.').split_once(" to ")?;
    let is_number = |end: &str| end.starts_with(|first: char| first.is_ascii_digit());
    (is_number(from) && is_number(to)).then(|| format!("from {from} to {to}"))
}
