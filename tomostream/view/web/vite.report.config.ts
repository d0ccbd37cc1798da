import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// the report is one file: its script, which must be no module, and its style are put into it by `tomostream report`
export default defineConfig({
  plugins: [svelte()],
  publicDir: false,
  build: {
    outDir: "../../report/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rollupOptions: {
      input: "src/report/main.ts",
      output: { format: "iife", entryFileNames: "report.js", assetFileNames: "report[extname]" },
    },
  },
});
