declare module 'aedes-persistence-redis' {
  import type { AedesPersistence } from './aedes.js'

  function redisPersistence(options: { readonly conn: object; readonly maxSessionDelivery: number }): AedesPersistence
  export = redisPersistence
}
