"""`Classifier.kt` or `Predictor.kt`: the few lines of Kotlin that run the model on Android.

The API is `org.tensorflow.lite.Interpreter` of LiteRT for Android, which takes and fills direct buffers in
the machine's own byte order.
"""

from autoopt.bundle.ends import End, Interface, offset
from autoopt.bundle.escaping import comment

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
    fun {function}({parameters}): FloatArray {{
{feed}
        output.rewind()
        {call}
        output.rewind()
        return FloatArray({size}) {{ {read} }}
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
    "float32": "output.getFloat()",
    "int8": "output.get()",
    "uint8": "(output.get().toInt() and 0xFF)",
    "int16": "output.getShort()",
    "int32": "output.getInt()",
    "int64": "output.getLong()",
    "bool": "output.get()",
}


def kotlin(interface: Interface) -> tuple[str, str]:
    """Name and text of the class's file; quantization, dtypes and shapes are the file's own."""
    ends, output = interface.inputs, interface.output
    single = len(ends) == 1
    values = ["values"] if single else [f"values{i}" for i in range(len(ends))]
    buffers = ["input"] if single else [f"input{i}" for i in range(len(ends))]
    name, function = ("Classifier", "scores") if interface.classes else ("Predictor", "predict")
    assets = "model.tflite and labels.txt" if interface.labels else "model.tflite"
    parameters = ", ".join(f"{v}: {_array(end)}" for v, end in zip(values, ends, strict=True))
    shapes = " and ".join(end.in_words for end in ends)
    return f"{name}.kt", _CODE.format(
        title=comment(interface.title),
        package=PACKAGE,
        assets=assets,
        imports="import kotlin.math.round\n" if any(end.scale for end in ends) else "",
        name=name,
        fields=_fields(interface, buffers),
        doc=interface.doc(shapes),
        function=function,
        parameters=parameters,
        feed="\n".join(_feed(*parts) for parts in zip(buffers, values, ends, strict=True)),
        call=_call(buffers),
        size=output.size,
        read=_read(output),
        classify=_classify(interface, parameters, ", ".join(values)) if interface.classes else "",
    )


def _array(end: End) -> str:
    return "FloatArray" if end.scale or end.dtype == "float32" else _ARRAYS.get(end.dtype, "IntArray")


def _fields(interface: Interface, buffers: list[str]) -> str:
    lines = [
        f"    private val {buffer} = direct({end.bytes})  // {end.in_words} of {end.dtype}"
        for buffer, end in zip(buffers, interface.inputs, strict=True)
    ]
    output = interface.output
    lines.append(f"    private val output = direct({output.bytes})  // {output.in_words} of {output.dtype}")
    if interface.labels:
        lines.append(
            '    private val labels = context.assets.open("labels.txt").bufferedReader().useLines { it.toList() }'
        )
    resized = [(i, end) for i, end in enumerate(interface.inputs) if end.shape[0] != 1]
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


def _call(buffers: list[str]) -> str:
    if len(buffers) == 1:
        return f"interpreter.run({buffers[0]}, output)"
    return f"interpreter.runForMultipleInputsOutputs(arrayOf<Any>({', '.join(buffers)}), mapOf<Int, Any>(0 to output))"


def _read(output: End) -> str:
    got = _GET[output.dtype]
    if output.scale:
        return f"({got}{offset(-output.zero)}) * {output.factor}f"
    return got if output.dtype == "float32" else f"{got}.toFloat()"


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
