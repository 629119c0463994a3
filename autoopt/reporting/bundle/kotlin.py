"""`Classifier.kt` or `Predictor.kt`: the few lines of Kotlin that run the model on Android.

The API is `org.tensorflow.lite.Interpreter` of LiteRT for Android, which takes and fills direct buffers in
the machine's own byte order.
"""

from autoopt.reporting.bundle.ends import End, Interface, offset
from autoopt.reporting.bundle.ends import names as called
from autoopt.reporting.bundle.escaping import comment

PACKAGE = "com.google.ai.edge.litert:litert:1.4.2"
_CODE = """\
// Runs model.tflite on Android. {title}
// build.gradle.kts: implementation("{package}")
// Put {assets} into src/main/assets.

import android.content.Context
import java.nio.ByteBuffer
import java.nio.ByteOrder
{imports}import org.tensorflow.lite.Interpreter

class {name}(context: Context) : AutoCloseable {{
    private val interpreter =
        Interpreter(context.assets.open("model.tflite").use {{ it.readBytes() }}.let {{ direct(it.size).put(it) }})
{fields}
    /** {doc} */
    fun {function}({parameters}): {result} {{
{feed}
{rewind}
        {call}
{rewind}
        return {read}
    }}
{classify}
    override fun close() = interpreter.close()

    private fun direct(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
}}
"""
_ARRAYS = {"int64": "LongArray", "bool": "BooleanArray"}
_PUT = {
    "float32": "putFloat({})",
    "int8": "put({}.toByte())",
    "uint8": "put({}.toByte())",
    "int16": "putShort({}.toShort())",
    "int32": "putInt({})",
    "int64": "putLong({})",
    "bool": "put((if ({}) 1 else 0).toByte())",
}
_GET = {
    "float32": "{}.getFloat()",
    "int8": "{}.get()",
    "uint8": "({}.get().toInt() and 0xFF)",
    "int16": "{}.getShort()",
    "int32": "{}.getInt()",
    "int64": "{}.getLong()",
    "bool": "{}.get()",
}


def kotlin(interface: Interface) -> tuple[str, str]:
    """Name and text of the class's file; quantization, dtypes and shapes are the file's own."""
    ends, outputs = interface.inputs, interface.outputs
    values, buffers, results = _numbered("values", ends), _numbered("input", ends), _numbered("output", outputs)
    name, function = ("Classifier", "scores") if interface.classes else ("Predictor", "predict")
    assets = "model.tflite and labels.txt" if interface.labels else "model.tflite"
    parameters = ", ".join(f"{v}: {_array(end)}" for v, end in zip(values, ends, strict=True))
    return f"{name}.kt", _CODE.format(
        title=comment(interface.title),
        package=PACKAGE,
        assets=assets,
        imports="import kotlin.math.round\n" if any(end.scale for end in ends) else "",
        name=name,
        fields=_fields(interface, buffers, results),
        doc=interface.doc([end.in_words for end in ends]),
        function=function,
        parameters=parameters,
        feed="\n".join(_feed(*parts) for parts in zip(buffers, values, ends, strict=True)),
        result="FloatArray" if len(outputs) == 1 else "Map<String, FloatArray>",
        rewind="\n".join(f"        {result}.rewind()" for result in results),
        call=_call(buffers, results),
        read=_read(outputs, results),
        classify=_classify(interface, parameters, ", ".join(values)) if interface.classes else "",
    )


def _numbered(name: str, ends: tuple[End, ...]) -> list[str]:
    return [name] if len(ends) == 1 else [f"{name}{i}" for i in range(len(ends))]


def _array(end: End) -> str:
    return "FloatArray" if end.scale or end.dtype == "float32" else _ARRAYS.get(end.dtype, "IntArray")


def _fields(interface: Interface, buffers: list[str], results: list[str]) -> str:
    ends = (*interface.inputs, *interface.outputs)
    lines = [
        f"    private val {buffer} = direct({end.bytes})  // {end.in_words} of {end.dtype}"
        for buffer, end in zip((*buffers, *results), ends, strict=True)
    ]
    if interface.labels:
        lines.append(
            '    private val labels = context.assets.open("labels.txt").bufferedReader().useLines { it.toList() }'
        )
    resized = [(i, end) for i, end in enumerate(interface.inputs) if end.shape and end.shape[0] != 1]
    for i, end in resized:
        shape = ", ".join(map(str, (1, *end.item)))
        lines.append(f"\n    init {{ interpreter.resizeInput({i}, intArrayOf({shape})) }}  // one item at a time")
    return "\n".join(lines) + "\n"


def _feed(buffer: str, values: str, end: End) -> str:
    taken = "v"
    if end.scale:
        low, high = end.limits
        taken = f"round(v / {end.factor}f{offset(end.zero)}).toInt().coerceIn({low}, {high})"
    return (
        f'        require({values}.size == {end.size}) {{ "expected {end.size} values, got ${{{values}.size}}" }}\n'
        f"        {buffer}.rewind()\n"
        f"        for (v in {values}) {buffer}.{_PUT[end.dtype].format(taken)}\n"
        f"        {buffer}.rewind()"
    )


def _call(buffers: list[str], results: list[str]) -> str:
    if len(buffers) == len(results) == 1:
        return f"interpreter.run({buffers[0]}, {results[0]})"
    places = ", ".join(f"{i} to {result}" for i, result in enumerate(results))
    return f"interpreter.runForMultipleInputsOutputs(arrayOf<Any>({', '.join(buffers)}), mapOf<Int, Any>({places}))"


def _read(ends: tuple[End, ...], results: list[str]) -> str:
    arrays = [f"FloatArray({end.size}) {{ {_value(end, result)} }}" for end, result in zip(ends, results, strict=True)]
    if len(arrays) == 1:
        return arrays[0]
    pairs = (f'"{name}" to {array}' for name, array in zip(called(ends, "output"), arrays, strict=True))
    return f"mapOf({', '.join(pairs)})"


def _value(end: End, buffer: str) -> str:
    got = _GET[end.dtype].format(buffer)
    if end.scale:
        return f"({got}{offset(-end.zero)}) * {end.factor}f"
    return got if end.dtype == "float32" else f"{got}.toFloat()"


def _classify(interface: Interface, parameters: str, arguments: str) -> str:
    if interface.binary:
        best = f"if (found[0] > {interface.threshold}f) 1 else 0"
    else:
        best = "found.indices.maxByOrNull { found[it] }!!"
    kind, result = ("String", 'labels.getOrElse(best) { "$it" }') if interface.labels else ("Int", "best")
    return f"""
    /** The most likely class. */
    fun classify({parameters}): {kind} {{
        val found = scores({arguments})
        val best = {best}
        return {result}
    }}
"""
