// A button that uploads a file into ComfyUI's input folder and chooses it in the list above. ComfyUI has such a button
// of its own for pictures, videos and sound alone; without this file all nodes work, only the button is missing.

import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const PICKERS = {
  HumanNormLoadMesh: { widget: "file", folder: "3d", endings: ".glb,.gltf,.obj,.ply,.stl" },
  HumanNormLoadState: { widget: "file", folder: "humannorm", endings: ".safetensors", note: " [input]" },
  HumanNormPose: { widget: "motion_file", folder: "", endings: ".bvh" }
}

async function upload(file, folder) {
  const body = new FormData()
  body.append("image", file)
  body.append("type", "input")
  if (folder) body.append("subfolder", folder)
  const answer = await api.fetchApi("/upload/image", { method: "POST", body })
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.statusText}`)
  const { name, subfolder } = await answer.json()
  return subfolder ? `${subfolder}/${name}` : name
}

function choose(node, { widget: name, folder, endings, note = "" }) {
  const input = document.createElement("input")
  input.type = "file"
  input.accept = endings
  input.onchange = async () => {
    const widget = node.widgets.find((each) => each.name === name)
    try {
      const path = (await upload(input.files[0], folder)) + note
      const values = widget.options.values
      if (Array.isArray(values) && !values.includes(path)) values.push(path)
      widget.value = path
      widget.callback?.(path)
      node.setDirtyCanvas?.(true, true)
    } catch (error) {
      app.extensionManager?.toast?.add({ severity: "error", summary: "Upload failed", detail: String(error), life: 6000 })
    }
  }
  input.click()
}

app.registerExtension({
  name: "HumanNorm.Upload",
  nodeCreated(node) {
    const picker = PICKERS[node.comfyClass]
    if (!picker) return
    const button = node.addWidget("button", "upload a file", null, () => choose(node, picker), { serialize: false })
    button.serialize = false // it has no place in widgets_values
  }
})
