//! Process 1 of a sandbox, for the tests: in the product it is a hidden command of the program.

fn main() {
    std::process::exit(astraler_pipeline::sandbox_init());
}
