// The ready examples, one after the other, with the ids that they answer.
import { say, visit } from './graphiql.js'

const [chromium, url, pictures, colours] = process.argv.slice(2)
const ID = /"id": "([0-9a-f]{24})"/

await visit(chromium, url, async (graphiql) => {
  const picture = (name) => graphiql.picture(pictures && `${pictures}/${colours}-${name}.png`)

  say(await graphiql.tabs())
  await graphiql.run()
  say((await graphiql.shown(/"version": "([^"]+)"/))[1])
  await picture('server')

  await graphiql.open('Apply')
  await graphiql.run()
  const resource = (await graphiql.shown(ID))[1]
  await picture('apply')

  await graphiql.open('Deploy')
  await graphiql.write('Variables', JSON.stringify({ id: resource }))
  await graphiql.run()
  const update = (await graphiql.shown(ID))[1]
  await picture('deploy')

  await graphiql.open('Events')
  await graphiql.write('Variables', JSON.stringify({ id: update }))
  await graphiql.run()
  await graphiql.shown(/"finished": true/)
  await picture('events')

  await graphiql.open('Watch')
  await graphiql.write('Variables', JSON.stringify({ id: update }))
  await graphiql.run()
  say((await graphiql.shown(/"status": "([A-Z_]+)".*"value": "Hello, world!"/))[1])
  await picture('watch')

  await graphiql.open('Cancel')
  await graphiql.write('Variables', JSON.stringify({ id: update }))
  await graphiql.run()
  say((await graphiql.shown(/"__typename": "(\w+)"/))[1])

  await graphiql.open('List')
  await graphiql.run()
  say((await graphiql.shown(/"kind": "(\w+)"/))[1])
  await picture('list')
  await graphiql.page.getByRole('button', { name: /Documentation Explorer/ }).click()
  await graphiql.page.getByText('Root Types').waitFor()
  await picture('docs')
}, colours)
