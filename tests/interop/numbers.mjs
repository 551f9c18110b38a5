// Doubles and what JSON.stringify makes of them: node numbers.mjs > ../edge/hyperbee/numbers.json
const out=[]
let s=123456789n
const next=()=>{ s=(s*6364136223846793005n+1442695040888963407n)&((1n<<64n)-1n); return s }
const buf=new DataView(new ArrayBuffer(8))
const add=(x)=>{ buf.setFloat64(0,x); out.push([buf.getBigUint64(0).toString(16).padStart(16,'0'), JSON.stringify(x)]) }
for (const x of [0,-0,1,-1,0.5,1e-4,1e-5,1.5e-5,1e-6,9.99e-7,1e-7,1.25e-7,-1e-7,5e-324,2.2250738585072014e-308,1e15,1e16,1e17,123456789012345680000,1e20,999999999999999900000,1e21,-1e21,1.5e21,1e22,1.2345e22,1e23,1e100,1.7976931348623157e308,0.1,0.2,0.30000000000000004,123.456,9007199254740991,9007199254740992,9007199254740993,4294967296.5,1e-10,1.1e-10,100,1e2,12e20,0.000001234,0.0000001234,1e300*3,2**53,2**64,2**70,2**-20,2**-30,249.99,19.9]) add(x)
for (let i=0;i<60;i++){ buf.setBigUint64(0,next()); const x=buf.getFloat64(0); if (Number.isFinite(x)) add(x) }
for (let i=0;i<60;i++){ const e=Number(next()>>40n)%50-25; const m=Number(next()>>11n)/2**53; add(m*10**e) }
const lines = out.map((row) => "  " + JSON.stringify(row)).join(",\n")
process.stdout.write(`{
 "node": ${JSON.stringify(process.version)},
 "numbers": [
${lines}
 ]
}
`)
