import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// three files of fixed names, so that the server sends them from memory and a rebuild can be compared byte for byte
export default defineConfig({
  base: "./",
  plugins: [svelte()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { entryFileNames: "app.js", chunkFileNames: "[name].js", assetFileNames: "app[extname]" },
    },
  },
});
