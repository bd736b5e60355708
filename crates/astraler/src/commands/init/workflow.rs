//! `.github/workflows/ci.yml` for an application: its own scripts as gates, then one deploy for each environment.

use super::project::{Manager, Project};

const HEAD: &str = r#"# Runs on GitHub Actions and in Astraler's own pipeline as it stands.
#
# The deploy jobs need the program `astraler`: set the repository variable ASTRALER_RUNNER to the label of a runner on
# which it is installed. Each environment (Settings → Environments) holds the variable ASTRALER_URL and the secret
# ASTRALER_TOKEN; staging's also ASTRALER_ENVIRONMENT_URL, where it is seen.
name: CI

on:
  push:
    branches: [main, develop, "feature/**"]
  pull_request:

permissions:
  contents: read

concurrency:
  group: ci-${{ github.ref }}
  cancel-in-progress: ${{ github.ref != 'refs/heads/main' && github.ref != 'refs/heads/develop' }}

jobs:
"#;

/// Job, and the scripts of which the first one that there is runs in it.
const GATES: &[(&str, &[&str])] = &[
    ("lint", &["lint"]),
    ("typecheck", &["typecheck", "type-check"]),
    ("test", &["test:ci", "test"]),
    ("build", &["build"]),
];

/// Scripts that test what runs on staging, of which the first one that there is runs after its deployment.
const E2E: &[&str] = &["test:e2e", "e2e"];

/// Environment, and the event on which it is deployed.
const DEPLOYS: &[(&str, &str)] = &[
    // A pull request from a fork gets no secrets, so it cannot deploy.
    (
        "preview",
        "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository",
    ),
    (
        "staging",
        "github.event_name == 'push' && github.ref == 'refs/heads/develop'",
    ),
    (
        "production",
        "github.event_name == 'push' && github.ref == 'refs/heads/main'",
    ),
];

/// The whole file.
pub(super) fn workflow(project: &Project) -> String {
    let mut text = HEAD.to_owned();
    let mut gates = Vec::new();
    for (job, scripts) in GATES {
        let Some(script) = project.script(scripts) else {
            continue;
        };
        gates.push(*job);
        text.push_str(&format!(
            "  {job}:\n    runs-on: ubuntu-latest\n    timeout-minutes: 15\n    steps:\n{}      - run: {}\n\n",
            setup(project),
            project.run(script)
        ));
    }
    for (environment, condition) in DEPLOYS {
        text.push_str(&format!("  deploy-{environment}:\n"));
        if !gates.is_empty() {
            text.push_str(&format!("    needs: [{}]\n", gates.join(", ")));
        }
        text.push_str(&format!(
            "    if: {condition}\n    runs-on: ${{{{ vars.ASTRALER_RUNNER || 'ubuntu-latest' }}}}\n    timeout-minutes: 20\n    environment: {environment}\n    steps:\n{}      - run: astraler deploy --env {environment}\n        env:\n          ASTRALER_URL: ${{{{ vars.ASTRALER_URL }}}}\n          ASTRALER_TOKEN: ${{{{ secrets.ASTRALER_TOKEN }}}}\n\n",
            setup(project)
        ));
        if let ("staging", Some(script)) = (*environment, project.script(E2E)) {
            text.push_str(&format!(
                "  e2e:\n    needs: deploy-staging\n    runs-on: ${{{{ vars.ASTRALER_RUNNER || 'ubuntu-latest' }}}}\n    timeout-minutes: 15\n    environment: staging\n    steps:\n{}      - run: {}\n        env:\n          BASE_URL: ${{{{ vars.ASTRALER_ENVIRONMENT_URL }}}}\n\n",
                setup(project),
                project.run(script)
            ));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Checkout, and the packages.
fn setup(project: &Project) -> String {
    let mut steps = vec!["      - uses: actions/checkout@v4".to_owned()];
    let node = |manager: &str| {
        format!(
            "      - uses: actions/setup-node@v4\n        with:\n          node-version: 24\n          cache: {manager}"
        )
    };
    match project.manager {
        None => {}
        Some(Manager::Npm) => {
            steps.push(node("npm"));
            steps.push("      - run: npm ci".to_owned());
        }
        Some(Manager::Pnpm { pinned }) => {
            let version = if pinned {
                ""
            } else {
                "\n        with:\n          version: 10"
            };
            steps.push(format!("      - uses: pnpm/action-setup@v4{version}"));
            steps.push(node("pnpm"));
            steps.push("      - run: pnpm install --frozen-lockfile".to_owned());
        }
        Some(Manager::Yarn) => {
            steps.push(node("yarn"));
            steps.push("      - run: yarn install --immutable || yarn install --frozen-lockfile".to_owned());
        }
    }
    steps.join("\n") + "\n"
}
