//! The tests of the rules: as scenarios, as a table, and as properties of random histories.

mod digest;
mod history;
mod ledger;
mod oracle;
mod properties;
mod rows;
mod rules;
mod scenario;
mod scenarios;
mod table;
