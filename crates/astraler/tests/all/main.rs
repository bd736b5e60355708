//! The program as users meet it: real engines, real processes, one platform for each test.

mod cli;
mod docs;
mod faults;
mod lifecycle;
mod starter;
mod support;
