import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "workers/*/test/**/*.test.ts"],
    testTimeout: 10_000,
    // A test that looks at nothing is an error.
    expect: { requireAssertions: true },
    restoreMocks: true,
    coverage: {
      provider: "v8",
      reporter: ["text", "lcov", "json-summary"],
      include: ["packages/*/src/**/*.ts", "workers/*/src/**/*.ts"],
      // These run against the real engines or not at all: `pnpm test:e2e` drives them, and the page (`web/src`),
      // through a browser, workerd, PostgreSQL, Redis and object storage. Nothing else is left out.
      exclude: [
        "workers/api/src/index.ts", // opens the connections
        "workers/api/src/database.ts", // SQL
        "workers/api/src/files.ts", // R2
      ],
      thresholds: { lines: 70, functions: 70, branches: 70, statements: 70 },
    },
  },
});
