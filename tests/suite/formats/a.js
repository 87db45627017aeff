require("ctrf"); require("har-validator"); console.log("ok")
