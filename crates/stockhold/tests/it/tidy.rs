//! What no tool checks.

/// Whoever writes a line under *Behavior* writes a law.
#[test]
fn every_behavior_of_a_ledger_is_a_law_of_that_name() {
    let ledger = include_str!("../../src/ledger.rs");
    let suite = include_str!("../../src/conformance.rs");
    let lists = include_str!("../../src/conformance/lists.rs");
    let laws = [suite, lists, include_str!("../../src/conformance/retire.rs")].concat();
    let (suite, _) = suite.split_once("mod $suite").expect("the macro");
    let behaviors: Vec<_> = ledger
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// - `")?.split('`').next())
        .collect();
    assert!(behaviors.len() > 15, "{behaviors:?}");
    for law in behaviors {
        assert!(laws.contains(&format!("pub async fn {law}(")), "there is no law {law}");
        assert!(suite.split_whitespace().any(|word| word == law), "{law} is not in the suite");
    }
}
