import { defineConfig } from 'vite'

// The page is answered at PREFIX/graphiql and what it loads below that, whatever a proxy's prefix is: so all is named
// relative to the page.
export default defineConfig({
  base: './',
  build: { assetsDir: 'graphiql', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 8192 },
  worker: { format: 'es' },
  server: { proxy: { '/graphql': { target: 'http://127.0.0.1:8321', ws: true } } },
})
