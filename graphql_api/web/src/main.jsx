import 'graphiql/setup-workers/vite'
import 'graphiql/style.css'
import './style.css'

import { GraphiQL } from 'graphiql'
import { useMemo, useState } from 'react'
import { createRoot } from 'react-dom/client'

import { examples } from './examples.js'
import { createFetcher, isLetIn } from './fetcher.js'
import { keptToken, TokenForm } from './token.jsx'

function Page({ kept, letIn }) {
  const [token, setToken] = useState(letIn ? kept : null)
  const fetcher = useMemo(() => createFetcher(token), [token])
  if (!letIn && token === null) return <TokenForm onToken={setToken} />
  return (
    <GraphiQL fetcher={fetcher} defaultTabs={examples} defaultEditorToolsVisibility="variables" showPersistHeadersSettings={false}>
      <GraphiQL.Logo>stackcast</GraphiQL.Logo>
    </GraphiQL>
  )
}

const kept = keptToken()
const letIn = await isLetIn(kept)
createRoot(document.getElementById('page')).render(<Page kept={kept} letIn={letIn} />)
