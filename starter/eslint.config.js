import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import globals from "globals";
import tseslint from "typescript-eslint";

export default defineConfig(
  globalIgnores(["**/node_modules/", "**/dist/", "**/coverage/", "**/test-results/", "**/.astraler/", "**/.wrangler/"]),
  { linterOptions: { reportUnusedDisableDirectives: "error", reportUnusedInlineConfigs: "error" } },
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: {
        project: ["workers/tsconfig.json", "web/tsconfig.json", "scripts/tsconfig.json", "tsconfig.test.json"],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      // `noPropertyAccessFromIndexSignature` of the compiler asks for the brackets that this rule takes away.
      "@typescript-eslint/dot-notation": ["error", { allowIndexSignaturePropertyAccess: true }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/explicit-module-boundary-types": "off",
      eqeqeq: "error",
    },
  },
  {
    // Plain JavaScript runs in Node.js; the compiler checks its types, too.
    files: ["**/*.{js,mjs}"],
    languageOptions: { globals: globals.node },
    rules: { eqeqeq: "error" },
  },
);
