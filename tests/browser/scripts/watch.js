// Watches a stack update that goes on, and says each status as the page shows it.
import { say, visit } from './graphiql.js'

const [chromium, url, update] = process.argv.slice(2)

await visit(chromium, url, async (graphiql) => {
  await graphiql.tabs()
  await graphiql.open('Watch')
  await graphiql.write('Variables', JSON.stringify({ id: update }))
  await graphiql.run()
  say((await graphiql.shown(/"status": "(IN_PROGRESS)"/))[1])
  say((await graphiql.shown(/"status": "(?!IN_PROGRESS)([A-Z]+)"/))[1])
})
