//! What breaks, and what must hold (`faults.md`): servers that are killed, paused or lied to, while
//! customers buy. Each story ends with the judge of histories and with `stockhold verify`.

mod bugs;
mod clocks;
mod crash;
mod crowd;
mod few;
mod full;
mod killed;
mod lockers;
mod lost;
mod outage;
mod paused;
mod races;
mod redis;
mod standby;
mod stuck;
