// Asks a server that wants a token: with a wrong one, the right one, and another in the headers of one tab.
import { say, visit } from './graphiql.js'

const [chromium, url, token, picture, colours] = process.argv.slice(2)
const NOWHERE = JSON.stringify({ id: '0'.repeat(24) })

await visit(chromium, url, async (graphiql) => {
  const form = graphiql.page.getByRole('textbox')
  await form.fill('wrong')
  await form.press('Enter')
  const refusal = graphiql.page.getByRole('alert').filter({ hasText: /./ })
  await refusal.waitFor()
  say(await refusal.innerText())
  await graphiql.picture(picture && `${picture}/${colours}-token.png`)
  await form.fill(token)
  await form.press('Enter')

  await graphiql.tabs()
  await graphiql.run()
  say((await graphiql.shown(/"version"/))[0])
  await graphiql.open('Watch')
  await graphiql.write('Variables', NOWHERE)
  await graphiql.run()
  say((await graphiql.shown(/"__typename": "(\w+)"/))[1])

  await graphiql.page.reload()
  await graphiql.tabs()
  await graphiql.open('List')
  await graphiql.write('Headers', JSON.stringify({ Authorization: 'Bearer wrong' }))
  await graphiql.run()
  say((await graphiql.shown(/"code": "(\w+)"/))[1])
  await graphiql.open('Events')
  await graphiql.write('Variables', NOWHERE)
  await graphiql.write('Headers', JSON.stringify({ Authorization: 'Bearer wrong' }))
  await graphiql.run()
  say((await graphiql.shown(/Socket closed with event (\d+)/))[1])
}, colours)
